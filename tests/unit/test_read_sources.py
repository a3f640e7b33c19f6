"""Files to lines: sources, compression, encodings and line ends."""

import gzip
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import DIRTY, in_a_folder, needs_dirty, written

from luthier.core.errors import DataError, SettingsError
from luthier.data import lines as lines_module
from luthier.data.lines import find_encoding, read_lines, utf8_chunks
from luthier.data.problems import RowProblem
from luthier.data.records import Broken
from luthier.data.sources import Source, byte_chunks, find_sources, first_bytes


def test_a_folder_is_read_recursively_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.csv", ".hidden.jsonl", ".git/x.jsonl", "a/b/c.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [source.name for source in find_sources(str(tmp_path))] == ["a/b/c.json", "a/z.csv", "b.jsonl"]


def test_a_glob_names_files_below_its_fixed_part(tmp_path: Path) -> None:
    for name in ("x/1.jsonl", "x/2.jsonl", "x/2.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [source.name for source in find_sources(str(tmp_path / "x" / "*.jsonl"))] == ["1.jsonl", "2.jsonl"]
    assert [source.name for source in find_sources(str(tmp_path / "*" / "*.csv"))] == ["x/2.csv"]


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("x")
    with pytest.raises(DataError, match=r"Did you mean 'tickets.csv'"):
        find_sources(str(tmp_path / "ticket.csv"))
    with pytest.raises(DataError, match="holds no files"):
        find_sources(str(tmp_path / "*.jsonl"))


def test_gzip_of_several_members_and_zstd_are_unpacked(tmp_path: Path) -> None:
    packed = written(tmp_path, "a.gz", gzip.compress(b"one\n") + gzip.compress(b"two\n") + b"\0" * 512)
    assert b"".join(byte_chunks(packed)) == b"one\ntwo\n"
    with pa.CompressedOutputStream(str(tmp_path / "b.zst"), "zstd") as stream:
        stream.write(b"three\n" * 100_000)
    assert b"".join(byte_chunks(Source(tmp_path / "b.zst", "b.zst"))) == b"three\n" * 100_000


@pytest.mark.parametrize("size", [10, 1000, 300_000])
def test_a_cut_gzip_gives_all_whole_bytes_and_then_says_so(tmp_path: Path, size: int) -> None:
    data = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(size // 32 + 1))
    whole = gzip.compress(data, mtime=0)
    source = written(tmp_path, "a.gz", whole[: len(whole) - 5])
    got = bytearray()
    with pytest.raises(RowProblem) as caught:
        for chunk in byte_chunks(source):
            got += chunk
    assert caught.value.rule == "truncated-file"
    assert bytes(got) == data


def test_a_cut_zstd_is_reported(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(b"".join(b"%d\n" % number for number in range(50_000)))
    packed = sink.getvalue().to_pybytes()
    with pytest.raises(RowProblem) as caught:
        list(byte_chunks(written(tmp_path, "a.zst", packed[: len(packed) // 2])))
    assert caught.value.rule == "truncated-file"


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path, "bomb.gz", gzip.compress(bytes(80 << 20), compresslevel=6))
    largest = 0
    with pytest.raises(DataError, match="unpacks to more than"):
        for chunk in byte_chunks(source):
            largest = max(largest, len(chunk))
    assert largest <= 1 << 20


def test_archives_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="zip archive"):
        first_bytes(written(tmp_path, "a.jsonl", b"PK\x03\x04rest"), 10)


# Encodings and lines


@needs_dirty
@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("encoding_utf16le_bom.jsonl", None),
        ("encoding_utf16be_nobom.jsonl", None),
        ("encoding_utf8_bom.jsonl", None),
        ("encoding_latin1.jsonl", "latin-1"),
        ("encoding_cp1252.jsonl", "cp1252"),
    ],
)
def test_encodings_decode_to_the_very_text(name: str, declared: str | None) -> None:
    expected = json.loads((DIRTY / "MANIFEST.json").read_text())["files"][name]["utf8_sha256"]
    source = Source(DIRTY / name, name)
    decoded = b"".join(utf8_chunks(source, find_encoding(source, declared)))
    assert hashlib.sha256(decoded).hexdigest() == expected


@in_a_folder
@given(
    st.text(st.characters(codec="utf-16"), min_size=1),
    st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "utf-8-sig"]),
)
def test_a_declared_unicode_encoding_reads_back_any_text(tmp_path: Path, text: str, encoding: str) -> None:
    source = written(tmp_path, "t", text.encode(encoding))
    decoded = b"".join(utf8_chunks(source, find_encoding(source, encoding))).decode("utf-8")
    assert decoded == text.removeprefix("\ufeff")


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    source = written(tmp_path, "a", "a\u2028b\u0085c\x0bd\r\n\ne")
    assert [(line.number, line.text) for line in read_lines(source, "utf-8") if not isinstance(line, Broken)] == [
        (1, "a\u2028b\u0085c\x0bd\r"),
        (2, ""),
        (3, "e"),
    ]
    assert [line.text for line in read_lines(written(tmp_path, "b", "a\rb\r"), "utf-8")] == ["a", "b"]  # type: ignore[union-attr]


def test_lines_are_whole_across_chunks(tmp_path: Path) -> None:
    texts = ["x" * (number * 37 % 9000) + "é" for number in range(400)]
    source = written(tmp_path, "a", "\n".join(texts))
    assert [line.text for line in read_lines(source, "utf-8")] == texts  # type: ignore[union-attr]


def test_a_line_that_is_not_utf8_costs_that_line_only(tmp_path: Path) -> None:
    source = written(tmp_path, "a", "é\n".encode() * 5 + "né\n".encode("latin-1") + "ö".encode())
    broken = [line for line in read_lines(source, "utf-8") if isinstance(line, Broken)]
    assert [(line.line, line.rule) for line in broken] == [(6, "bad-encoding")]
    assert "0xe9 at byte 1" in broken[0].detail


@pytest.mark.parametrize(("encoding", "text"), [("cp1252", "costs 5 €"), ("latin-1", "a café")])
def test_a_file_in_another_encoding_is_refused_with_its_likely_name(tmp_path: Path, encoding: str, text: str) -> None:
    source = written(tmp_path, "a", f"{text}\nplain\n".encode(encoding) * 5)
    with pytest.raises(DataError, match=f"data.encoding={encoding}"):
        list(read_lines(source, "utf-8"))


def test_a_wrong_or_unknown_declared_encoding_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path, "a", "é".encode())
    with pytest.raises(DataError, match="is not ascii"):
        list(utf8_chunks(source, "ascii"))
    for name in ("latin-99", "zip"):
        with pytest.raises(SettingsError, match=r"data\.encoding"):
            find_encoding(source, name)


def test_a_line_too_long_costs_that_line_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "LONGEST_LINE_BYTES", 1 << 20)
    source = written(tmp_path, "a", b"one\n" + b"x" * ((1 << 20) + 1) + b"\nthree\n" + b"y" * (2 << 20))
    assert [line.rule if isinstance(line, Broken) else line.text for line in read_lines(source, "utf-8")] == [
        "one",
        "too-long-line",
        "three",
        "too-long-line",
    ]
