"""Rows to Parquet and back."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.core.types import Content, Conversation, JsonObject, Message, Preference, Row, Text
from luthier.data import store
from luthier.data.store import RowWriter, content_from_json, content_json, count_stored, read_stored

texts = st.text(st.characters(codec="utf-8"), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}}, texts, json_values
)
plain = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "tool"]),
    content=texts,
    tool_call_id=st.none() | texts,
    name=st.none() | texts,
)
answers = st.builds(
    Message,
    role=st.just("assistant"),
    content=texts,
    weight=st.sampled_from([0, 1]),
    reasoning=st.none() | texts,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
)
turns = st.lists(plain | answers, max_size=4).map(tuple)
tools = st.lists(st.dictionaries(texts, json_values, max_size=2), max_size=2).map(tuple)
contents = (
    st.builds(Conversation, messages=turns, tools=tools)
    | st.builds(Preference, prompt=turns, chosen=turns, rejected=turns, tools=tools)
    | st.builds(Text, text=texts)
)


def row(number: int, content: Content) -> Row:
    return Row(f"{number:016x}", "a.jsonl", number * 2, number, content, None if number % 2 else f"g{number}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(contents, max_size=5))
def test_rows_read_back_exactly(tmp_path: Path, written: list[Content]) -> None:
    rows = [row(number, content) for number, content in enumerate(written, start=1)]
    with RowWriter(tmp_path / "rows.parquet") as writer:
        for item in rows:
            writer.write(item)
    assert list(read_stored(tmp_path / "rows.parquet")) == rows
    assert count_stored(tmp_path / "rows.parquet") == len(rows)


def test_unlike_tool_calls_do_not_gain_arguments() -> None:
    shapes: list[JsonObject] = [{"a": 1}, {"a": "one", "b": {"c": []}}, {}]
    for arguments in shapes:
        call: JsonObject = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        content = Conversation((Message("assistant", "", tool_calls=(call,)),))
        assert content_from_json(content_json(content)) == content


def test_rows_lie_in_groups_that_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "GROUP_ROWS", 10)
    with RowWriter(tmp_path / "rows.parquet") as writer:
        for number in range(25):
            writer.write(row(number, Text(str(number))))
    assert pq.read_metadata(tmp_path / "rows.parquet").num_row_groups == 3
    assert [stored.record for stored in read_stored(tmp_path / "rows.parquet")] == list(range(25))


def test_nothing_appears_after_an_error_and_an_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    with RowWriter(path) as writer:
        writer.write(row(1, Text("old")))
    with pytest.raises(RuntimeError), RowWriter(path) as writer:
        writer.write(row(2, Text("new")))
        raise RuntimeError("stopped")
    assert [stored.content for stored in read_stored(path)] == [Text("old")]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.parquet"]


def test_long_rows_are_written_before_they_fill_the_memory(tmp_path: Path) -> None:
    rows = [Row(f"r{line}", "a.txt", line, line, Text("x" * (24 << 20))) for line in range(1, 6)]
    with RowWriter(tmp_path / "rows.parquet") as writer:
        for row in rows:
            writer.write(row)
    groups = pq.read_metadata(tmp_path / "rows.parquet")
    assert [groups.row_group(place).num_rows for place in range(groups.num_row_groups)] == [3, 2]
    assert list(read_stored(tmp_path / "rows.parquet")) == rows
