"""Lines to records: JSON, CSV, Parquet and text."""

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from reading import DIRTY, in_a_folder, needs_dirty, written

from luthier.core.errors import DataError, SettingsError
from luthier.data.csv_rows import csv_rows
from luthier.data.json_rows import json_document, json_lines, parse_json
from luthier.data.kinds import find_kind
from luthier.data.parquet_rows import parquet_rows
from luthier.data.problems import RowProblem
from luthier.data.records import Broken, Record
from luthier.data.sources import Source
from luthier.data.text_rows import text_rows


def csv_records(source: Source, declared: str | None = None) -> list[Record | Broken]:
    return list(csv_rows(source, "utf-8", declared).items)


def rules(items: list[Record | Broken]) -> dict[int, str]:
    return {item.line: item.rule for item in items if isinstance(item, Broken)}


def values(items: list[Record | Broken]) -> list[dict]:
    return [item.value for item in items if isinstance(item, Record)]


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
    # Python 3.11 writes \r without quotes where lines end in \n; at the end of a line every reader takes it for a part of that end.
    assume(all_quoted or end == "\r\n" or not any(row[-1].endswith("\r") for row in rows))
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


def test_a_row_of_empty_cells_is_a_row_also_between_tabs(tmp_path: Path) -> None:
    source = written(tmp_path, "a.tsv", "q\ta\n1\t2\n\t\n\n3\t4\n")
    assert values(csv_records(source, "\t")) == [{"q": "1", "a": "2"}, {"q": "", "a": ""}, {"q": "3", "a": "4"}]


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
