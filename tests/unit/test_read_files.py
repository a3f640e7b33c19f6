"""Files to records: sources, compression, encodings, line ends, JSON, CSV, Parquet and text."""

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.core.errors import DataError, SettingsError
from luthier.data import lines as lines_module
from luthier.data.csv_rows import csv_rows
from luthier.data.json_rows import json_document, json_lines, parse_json
from luthier.data.kinds import find_kind
from luthier.data.lines import find_encoding, read_lines, utf8_chunks
from luthier.data.parquet_rows import parquet_rows
from luthier.data.problems import RowProblem
from luthier.data.records import Broken, Record
from luthier.data.sources import Source, byte_chunks, find_sources, first_bytes
from luthier.data.text_rows import text_rows

DIRTY = Path(__file__).parents[2].parent / "shared" / "data" / "dirty"
needs_dirty = pytest.mark.skipif(not DIRTY.is_dir(), reason="../shared/data/dirty is not here")
in_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def written(folder: Path, name: str, data: bytes | str) -> Source:
    path = folder / name
    path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return Source(path, name)


def csv_records(source: Source, declared: str | None = None) -> list[Record | Broken]:
    return list(csv_rows(source, "utf-8", declared).items)


def rules(items: list[Record | Broken]) -> dict[int, str]:
    return {item.line: item.rule for item in items if isinstance(item, Broken)}


def values(items: list[Record | Broken]) -> list[dict]:
    return [item.value for item in items if isinstance(item, Record)]


# Sources


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


# JSON

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=4)


@in_a_folder
@given(st.lists(json_objects, max_size=8), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_json_lines_read_back_what_was_written(tmp_path: Path, rows: list[dict], escaped: bool, end: str) -> None:
    source = written(tmp_path, "a", "".join(json.dumps(row, ensure_ascii=escaped) + end for row in rows))
    items = list(json_lines(source, "utf-8"))
    assert values(items) == rows
    assert [item.line for item in items] == list(range(1, len(rows) + 1))


@in_a_folder
@given(st.lists(json_objects, min_size=1, max_size=6), st.sampled_from([None, 0, 2]), st.booleans())
def test_json_arrays_read_back_with_the_line_of_each_row(
    tmp_path: Path, rows: list[dict], indent: int | None, wrapped: bool
) -> None:
    document = {"version": [1, 2], "data": {"rows": rows}} if wrapped else rows
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    items = list(json_document(written(tmp_path, "a", text), "utf-8", lambda row: False))
    assert values(items) == rows
    for item in items:
        assert "{" in text.split("\n")[item.line - 1]


@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        ('{"a": 1,}', "invalid-json", "at byte 8"),
        ('{"é": x}', "invalid-json", "at byte 7"),
        ('{"a": 1} {"a": 2}', "invalid-json", "Extra data"),
        ('{"a": NaN}', "nan-value", "NaN"),
        ('{"a": -Infinity}', "nan-value", "-Infinity"),
        ('{"a": 1e999}', "nan-value", "1e999"),
        ('{"a": {"b": 1, "b": 2}}', "duplicate-key", "'b'"),
        ('{"a": "\\ud83d x"}', "lone-surrogate", "ud83d"),
        ("[" * 65 + "]" * 65, "too-deep", "64"),
        ("[" * 100_000, "too-deep", "64"),
        ('{"a": ' + "9" * 5000 + "}", "invalid-json", "number"),
        ('{"a": "\t"}', "invalid-json", "control character"),
    ],
)
def test_broken_json_names_its_rule(text: str, rule: str, words: str) -> None:
    with pytest.raises(RowProblem) as caught:
        parse_json(text)
    assert caught.value.rule == rule
    assert words in caught.value.detail


def test_sound_json_at_the_limits_is_taken() -> None:
    assert parse_json('{"a": "\\ud83d\\ude00 \\\\ud83d"}') == {"a": "\U0001f600 \\ud83d"}
    assert parse_json("[" * 64 + "]" * 64)


def test_one_bad_row_in_an_array_costs_that_row_only(tmp_path: Path) -> None:
    source = written(tmp_path, "a", '[{"a": 1},\n {"a": 1, "a": 2},\n 7,\n {"a": NaN}, {"a": 3}\n]')
    items = list(json_document(source, "utf-8", lambda row: False))
    assert values(items) == [{"a": 1}, {"a": 3}]
    assert rules(items) == {2: "duplicate-key", 3: "not-an-object", 4: "nan-value"}


@pytest.mark.parametrize(
    "text", ['[{"a": 1},\n{"a" 2}]', '[{"a": 1}', '[{"a": 1}] x', '[{"a": 1} {"a": 2}]', '[{"a": 1},]']
)
def test_a_damaged_document_is_refused_with_the_place(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"not valid JSON: .* at line \d"):
        list(json_document(written(tmp_path, "a", text), "utf-8", lambda row: False))


def test_documents_whose_rows_are_unclear_are_refused(tmp_path: Path) -> None:
    two = written(tmp_path, "a", '{"train": [{"a": 1}], "test": [{"a": 2}]}')
    with pytest.raises(DataError, match="train, test"):
        list(json_document(two, "utf-8", lambda row: False))
    columns = written(tmp_path, "b", '{"text": ["x", "y"], "label": ["1", "2"]}')
    with pytest.raises(DataError, match="one array a column"):
        list(json_document(columns, "utf-8", lambda row: False))


def test_a_cut_document_gives_the_rows_before_the_cut(tmp_path: Path) -> None:
    rows = [{"a": hashlib.sha256(b"%d" % number).hexdigest()} for number in range(200)]
    packed = gzip.compress(json.dumps(rows, indent=1).encode())
    got = []
    with pytest.raises(RowProblem, match="truncated-file"):
        for item in json_document(written(tmp_path, "a.gz", packed[: len(packed) // 2]), "utf-8", lambda row: False):
            got.append(item.value)
    assert len(got) > 50
    assert got == rows[: len(got)]


# Kinds


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.json", '{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("a.jsonl", '[\n {"a": 1}\n]', "json"),
        ("a.jsonl", '[{"a": 1}, {"a": 2}]', "json"),
        ("a.jsonl", '{"a": 1}', "jsonl"),
        ("a.jsonl", '{"a": 1,}\n{"a": 2}\n', "jsonl"),
        ("a.jsonl", '["x"]\n{"a": 2}\n', "jsonl"),
        ("a.json", '{\n "data": [\n{"a": 1}]}', "json"),
        ("a.txt", '{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("a.txt", "{curly} words\nmore", "text"),
        ("a.csv", "{curly},b\nc,d", "csv"),
        ("a.tsv", "a\tb", "csv"),
        ("a.jsonl", "// a comment\n", "jsonl"),
        ("a", "words", "text"),
        ("a.png", b"\x89PNG\x00\x00", "other"),
        ("a.csv", "", "empty"),
    ],
)
def test_the_content_tells_the_kind(tmp_path: Path, name: str, text: str | bytes, kind: str) -> None:
    assert find_kind(written(tmp_path, name, text), None)[0] == kind


# CSV

cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@in_a_folder
@given(
    st.lists(st.tuples(cells, cells, cells), max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\r\n", "\n"]),
    st.booleans(),
)
def test_csv_reads_back_what_the_standard_library_wrote(
    tmp_path: Path, rows: list[tuple[str, str, str]], delimiter: str, end: str, all_quoted: bool
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(
        stream, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    )
    writer.writerows([("one", "two", "three"), *rows])
    source = written(tmp_path, "a.csv", stream.getvalue())
    items = csv_records(source, delimiter)
    assert [tuple(value.values()) for value in values(items)] == [row for row in rows if row != ("one", "two", "three")]


@needs_dirty
def test_multi_line_cells_are_whole_and_know_their_line() -> None:
    expected = json.loads((DIRTY / "MANIFEST.json").read_text())["files"]["csv_multiline.csv"]
    items = csv_records(Source(DIRTY / "csv_multiline.csv", "csv_multiline.csv"))
    joined = "\x1e".join("\x1f".join(str(cell) for cell in value.values()) for value in values(items))
    assert len(items) == expected["records"]
    assert hashlib.sha256(joined.encode()).hexdigest() == expected["sha256_of_cells"]
    texts = (DIRTY / "csv_multiline.csv").read_text(encoding="utf-8").split("\n")
    for item in items:
        assert (
            texts[item.line - 1].lstrip('"').startswith(item.value["question"].split("\n")[0][:20].replace('"', '""'))
        )


@needs_dirty
def test_a_broken_csv_costs_its_broken_lines_only() -> None:
    issues = json.loads((DIRTY / "MANIFEST.json").read_text())["files"]["csv_broken.csv"]["issues"]
    expected = {
        "repeated_header": "repeated-header",
        "missing_column": "wrong-columns",
        "extra_column": "wrong-columns",
        "semicolon_line": "wrong-columns",
        "tab_line": "wrong-columns",
        "unescaped_quote": "stray-quote",
        "unclosed_quote": "unclosed-quote",
    }
    items = csv_records(Source(DIRTY / "csv_broken.csv", "csv_broken.csv"))
    assert rules(items) == {issue["line"]: expected[issue["kind"]] for issue in issues if issue["kind"] in expected}
    assert len(values(items)) == 189


@pytest.mark.parametrize("last", ['"x",l', 't",l', "t,l"])
def test_an_unclosed_quote_does_not_swallow_the_file(tmp_path: Path, last: str) -> None:
    body = "".join(f"t{number},l\n" for number in range(500))
    items = csv_records(written(tmp_path, "a.csv", f'text,label\n"open,l\n{body}{last}\n'))
    assert rules(items) == {2: "unclosed-quote"}
    assert len(values(items)) == 501


def test_delimiters_are_found_and_can_be_declared(tmp_path: Path) -> None:
    assert values(csv_records(written(tmp_path, "a.csv", "a|b\n1,5|2\n3,5|4\n"))) == [
        {"a": "1,5", "b": "2"},
        {"a": "3,5", "b": "4"},
    ]
    source = written(tmp_path, "b.csv", "a^b\n1^2\n")
    assert values(csv_records(source, "^")) == [{"a": "1", "b": "2"}]
    with pytest.raises(SettingsError, match=r"data\.delimiter"):
        csv_records(source, "ab")


def test_a_header_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stands twice"):
        csv_records(written(tmp_path, "a.csv", "a,b,a\n1,2,3\n"))


def test_a_cell_may_be_longer_than_the_standard_library_allows(tmp_path: Path) -> None:
    text = "long " * 60_000
    assert values(csv_records(written(tmp_path, "a.csv", f'a,b\n"{text}",x\n'))) == [{"a": text, "b": "x"}]


# Parquet and text


def test_parquet_keeps_nested_values_and_writes_absent_numbers_as_null(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "hi"}], "score": float("nan")}, {"messages": [], "score": 1.5}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=1)
    items = list(parquet_rows(Source(tmp_path / "a.parquet", "a.parquet")).items)
    assert values(items) == [{"messages": rows[0]["messages"], "score": None}, {"messages": [], "score": 1.5}]
    assert [item.line for item in items] == [1, 2]


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable Parquet"):
        parquet_rows(written(tmp_path, "a.parquet", b"PAR1 and then nothing"))


def test_a_short_text_is_one_document_and_a_long_one_is_cut_without_loss(tmp_path: Path) -> None:
    short = "One.\n\nTwo.\n"
    assert values(list(text_rows(written(tmp_path, "a.txt", short), "utf-8"))) == [{"text": "One.\n\nTwo."}]
    paragraphs = [f"Paragraph {number}. " + "Words. " * 40 for number in range(500)]
    items = list(text_rows(written(tmp_path, "b.txt", "\n\n".join(paragraphs)), "utf-8"))
    assert 10 < len(items) < 60
    assert "".join("".join(value["text"].split()) for value in values(items)) == "".join(
        "".join(text.split()) for text in paragraphs
    )
    assert [item.line for item in items][:2] == [1, 1 + values(items)[0]["text"].count("\n") + 2]
