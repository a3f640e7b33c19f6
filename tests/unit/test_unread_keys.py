"""Keys that no format reads are noticed, in the record and in its turns, and rows of the usual shapes have none."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.config.settings import DataSettings
from luthier.core.types import JsonObject, JsonValue, Row, UnreadKey
from luthier.data.read import read, read_rows_from_python
from luthier.data.store import RowWriter, read_stored

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SAID: list[JsonValue] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "weight": 1}]
TOOL: JsonObject = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}


def unread(record: JsonObject, settings: DataSettings | None = None) -> dict[str, str | None]:
    (row,) = read_rows_from_python([record], settings or DataSettings(), lambda words: None)
    assert isinstance(row, Row)
    return {key.path: key.like for key in row.unread}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": SAID, "tools": [TOOL]},
        {"messages": [*SAID, {"role": "user", "content": [{"type": "text", "text": "x"}]}, SAID[1]], "functions": [{"name": "f"}]},
        {"instruction": "a", "input": "", "output": "b", "system": "s", "history": []},
        {"question": "a", "answer": "b"},
        {"prompt": "a", "completion": "b", "system": "s"},
        {"prompt": SAID[:1], "completion": SAID[1:]},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s", "tools": "[]"},
        {"text": "a document", "url": "u", "title": "t"},
    ],
)  # fmt: skip
def test_rows_of_the_usual_shapes_have_none(record: JsonObject) -> None:
    assert unread(record) == {}


def test_misspelled_keys_are_told_with_what_they_are_like() -> None:
    turns: list[JsonValue] = [SAID[0], {"role": "assistant", "content": "ho", "wieght": 0, "mood": "gay"}]
    assert unread({"messages": turns, "sytem": "s"}) == {
        "sytem": "system", "messages[].wieght": "weight", "messages[].mood": None,
    }  # fmt: skip
    assert unread({"instruction": "a", "output": "b", "system_prompt": "s"}) == {"system_prompt": "system"}
    assert unread({"messages": SAID, "system": "s"}) == {"system": "system"}, "this format has no such key"
    assert unread({"prompt": "a", "completion": "b", "System": "s", "id": 7}) == {"System": "system", "id": None}


def test_what_is_read_elsewhere_or_left_out_by_name_is_not_told() -> None:
    record: JsonObject = {"prompt": "a", "completion": "b", "customer": "c"}
    assert unread(record) == {"customer": None}
    assert unread(record, DataSettings(group="customer")) == {}
    assert unread(record, DataSettings(input="prompt", output=("completion",))) == {}


def test_turns_are_found_a_step_below_and_deep_values_cost_nothing() -> None:
    preference: JsonObject = {
        "input": {"messages": [{"role": "user", "content": "hi", "mood": "x"}]},
        "preferred_output": SAID[1:],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
        "deep": json.loads('{"a":' * 150 + "1" + "}" * 150),
    }
    assert unread(preference) == {"input.messages[].mood": None, "deep": None}


def test_every_shape_is_looked_at_and_not_the_first_alone(tmp_path: Path) -> None:
    good = {"prompt": "a", "completion": "b"}
    rows = [
        good,
        {**good, "x": 1},
        good,
        {"messages": SAID, "y": 2},
        {"messages": [SAID[0], {"role": "assistant", "content": "ho", "z": 0}]},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [
        row.unread
        for row in read(str(tmp_path / "a.jsonl"), DataSettings(), lambda words: None)
        if isinstance(row, Row)
    ]
    assert [[key.path for key in keys] for keys in found] == [[], ["x"], [], ["y"], ["messages[].z"]]


@settings(deadline=None)
@given(st.lists(st.builds(UnreadKey, st.text(max_size=9), st.none() | st.text(max_size=9)), max_size=3))
def test_they_are_stored_with_the_row(tmp_path_factory: pytest.TempPathFactory, keys: list[UnreadKey]) -> None:
    path = tmp_path_factory.mktemp("stored") / "rows.parquet"
    (plain,) = read_rows_from_python([{"prompt": "a", "completion": "b"}], DataSettings(), lambda words: None)
    assert isinstance(plain, Row)
    row = Row(plain.id, plain.file, plain.line, plain.record, plain.content, None, tuple(keys))
    with RowWriter(path) as writer:
        writer.write(row)
    assert list(read_stored(path)) == [row]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["banking77/test.jsonl", "clinc150/test.jsonl", "gsm8k/test.jsonl", "formats/alpaca_en_demo.json", "formats/glaive_toolcall_en_demo.json", "preferences/dpo_en_demo.json", "preferences/kto_en_demo.json"])  # fmt: skip
def test_clean_sets_have_none(name: str) -> None:
    rows = read(str(DATA / "tasks" / name), DataSettings(), lambda words: None)
    assert not any(row.unread for row in rows if isinstance(row, Row))
