"""Rows and files beyond all bounds get a clear word, quickly, and cost no more than themselves."""

import gzip
import json
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luthier.config.settings import DataSettings
from luthier.core.errors import DataError
from luthier.core.types import Conversation, Message, Rejected, Row, Text
from luthier.data.checking import context_of
from luthier.data.examine import check_names, examine, make_checks
from luthier.data.read import read

GOOD = b'{"prompt": "q", "completion": "a"}\n'
LONG = 200_000
TEXTS = {
    "words": " ".join(f"word{n}, 12 and 34." for n in range(10_000))[:LONG], "one letter": "a" * LONG, "digits": "4" * LONG,
    "numbers": "1 " * (LONG // 2), "brackets": "([{" * (LONG // 3), "mails": "a@" * (LONG // 2), "lines": "\n" * LONG + "x",
    "marks": "\u0301\u00e9\u6f22" * (LONG // 3), "JSON": json.dumps({"a": ["x"] * 30_000}), "secrets": "sk-" * (LONG // 3),
    "addresses": "http://a.b/" * (LONG // 11),
}  # fmt: skip


def rows_of(path: Path) -> tuple[list[Row], list[Rejected]]:
    both = list(read(str(path), DataSettings(), lambda words: None))
    return [one for one in both if isinstance(one, Row)], [one for one in both if isinstance(one, Rejected)]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes more time of this process than it may, whatever else the machine does."""
    started = time.process_time()
    yield
    assert time.process_time() - started < seconds


def test_a_row_of_200_000_characters_is_read_and_looked_at(tmp_path: Path) -> None:
    words = " ".join(f"word{n}, 12 and 34." for n in range(10_000))[:200_000]
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": words, "completion": words}) + "\n" + GOOD.decode())
    with within(2):
        rows, rejected = rows_of(tmp_path / "a.jsonl")
        assert len(rows) == 2 and not rejected
        assert isinstance(rows[0].content, Conversation) and rows[0].content.messages[1].content == words


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_check_looks_at_a_long_row_quickly_whatever_it_is_made_of(text: str) -> None:
    turns = [(text, text), (f"{text}x", "b"), ("q", text), ("what is it?", "yes")]
    rows = [
        Row(f"r{line}", "a.jsonl", line, line, Conversation((Message("user", asked), Message("assistant", said))))
        for line, (asked, said) in enumerate(turns, 1)
    ]
    with within(4):
        examine(make_checks(check_names(), context_of(rows)), rows)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.zip", "a.jsonl"])
def test_a_zip_bomb_of_rows_is_refused_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    plain = (GOOD[:-3] + b"a" * 4_000 + GOOD[-3:]) * 20_000
    if name.endswith("zst"):
        (tmp_path / name).write_bytes(pa.Codec("zstd").compress(plain, asbytes=True))
    elif name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jsonl", plain[: 1 << 22])
    else:
        (tmp_path / name).write_bytes(gzip.compress(plain, 1))
    word = "is a zip archive" if name.endswith("zip") else "unpacks to more than"
    with within(4), pytest.raises(DataError, match=word):
        for _ in read(str(tmp_path / name), DataSettings(), lambda words: None):
            pass


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_line_of_100_megabytes_costs_itself_only(tmp_path: Path, name: str) -> None:
    good = {"a.csv": b"prompt,completion\nq,a\n", "a.txt": b"some words\n"}.get(name, GOOD)
    with (tmp_path / name).open("wb") as stream:
        stream.write(good)
        for _ in range(100):
            stream.write(b"x" * (1 << 20))
        stream.write(b"\n" + good.splitlines(keepends=True)[-1])
    with within(3):
        rows, rejected = rows_of(tmp_path / name)
    assert [one.rule for one in rejected] == ["too-long-line"] and "64 MiB" in rejected[0].detail
    assert rejected[0].line == good.count(b"\n") + 1
    if name == "a.txt":
        assert [row.content for row in rows] == [Text("some words\nsome words")]
    else:
        assert len(rows) == 2


@pytest.mark.parametrize("piece", ["[", '{"a":'])
@pytest.mark.parametrize("closed", [True, False])
def test_json_100_000_deep_is_one_broken_row(tmp_path: Path, piece: str, closed: bool) -> None:
    deep = piece * 100_000 + "1" + (("]" if piece == "[" else "}") * 100_000 if closed else "")
    (tmp_path / "a.jsonl").write_text(f'{GOOD.decode()}{{"prompt": {deep}, "completion": "b"}}\n{GOOD.decode()}')
    with within(2):
        rows, rejected = rows_of(tmp_path / "a.jsonl")
    assert len(rows) == 2 and [(one.rule, one.line) for one in rejected] == [("too-deep", 2)]
    (tmp_path / "b.json").write_text(deep)
    with within(2), pytest.raises(DataError, match=r"b\.json is nested too deep to be read; a row may have 64"):
        rows_of(tmp_path / "b.json")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz", "a.txt.gz"])
@pytest.mark.parametrize("start", [b"", GOOD])
def test_a_bomb_of_zeros_is_refused_before_it_goes_off(tmp_path: Path, name: str, start: bytes) -> None:
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as stream:
        stream.write(start)
        for _ in range(256):
            stream.write(bytes(1 << 20))
    with within(3), pytest.raises(DataError, match="unpacks to more than"):
        rows_of(tmp_path / name)


def test_a_parquet_file_of_few_bytes_and_long_texts_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    table = pa.table({"prompt": pa.array(["x" * (16 << 20)]).take([0] * 12), "completion": [str(n) for n in range(12)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    pq.write_table(table, tmp_path / "b.parquet", compression="zstd", use_dictionary=False)
    del table
    before, most, num_rows = pa.total_allocated_bytes(), 0, 0
    for _ in read(str(tmp_path / "a.parquet"), DataSettings(), lambda words: None):
        num_rows, most = num_rows + 1, max(most, pa.total_allocated_bytes() - before)
    assert num_rows == 12 and most < 100 << 20
    with pytest.raises(DataError, match="unpacks to more than 192 MiB"):
        rows_of(tmp_path / "b.parquet")


def test_a_number_of_a_million_digits_is_one_broken_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD + b'{"prompt": "q", "completion": ' + b"9" * 1_000_000 + b"}\n" + GOOD)
    with within(2):
        rows, rejected = rows_of(tmp_path / "a.jsonl")
    assert len(rows) == 2 and [(one.rule, one.line) for one in rejected] == [("invalid-json", 2)]


@pytest.mark.parametrize("blank", [b"\x0b", b"\x0c\n \x1c\n", b"\xc2\xa0\n"])
def test_a_file_of_odd_blanks_holds_no_rows(tmp_path: Path, blank: bytes) -> None:
    for name in ("a.jsonl", "a.json", "a.txt", "a.csv"):
        (tmp_path / name).write_bytes(blank)
        assert rows_of(tmp_path / name)[0] == []


def test_rows_behind_two_megabytes_of_blanks_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b" \n" * (1 << 20) + GOOD)
    assert len(rows_of(tmp_path / "a.jsonl")[0]) == 1


def test_a_table_cut_short_gives_the_rows_before_the_cut(tmp_path: Path) -> None:
    table = "prompt,completion\n" + "".join(f"question {n * n},answer {n * 7}\n" for n in range(100))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(table.encode())[:-200])
    rows, rejected = rows_of(tmp_path / "a.csv.gz")
    assert 10 < len(rows) < 100 and [one.rule for one in rejected] == ["truncated-file"]
    (tmp_path / "b.csv").write_bytes(table.encode("utf-16")[:-1])
    assert len(rows_of(tmp_path / "b.csv")[0]) >= 99
    (tmp_path / "c.csv").write_bytes("prompt,completion".encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"c\.csv:1: the header cannot be read"):
        rows_of(tmp_path / "c.csv")
