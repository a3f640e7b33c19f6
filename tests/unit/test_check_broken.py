"""Rows set aside are told by rule, and turns out of place are found in the rows that were read."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.config.settings import CheckSettings, DataSettings
from luthier.core.errors import DataError
from luthier.core.types import Conversation, Finding, JsonObject, Message, Preference, Rejected, Row, Text, UnreadKey
from luthier.data.checking import Context, context_of
from luthier.data.checks.broken import Check
from luthier.data.examine import check_names, examine, make_checks
from luthier.data.read import read

ASK, ANSWER = Message("user", "What is it?"), Message("assistant", "A test.")


def find(rows: Sequence[Row], rejected: Sequence[Rejected] = ()) -> dict[str, Finding]:
    context = Context(CheckSettings(), len(rows), lambda: iter(rows), rows.__getitem__, tuple(rejected))
    return {one.kind: one for one in examine({"broken": Check(context)}, rows)["broken"]}


def talk(*messages: Message, tools: tuple[JsonObject, ...] = (), line: int = 1) -> Row:
    return Row(f"r{line}", "a.jsonl", line, line, Conversation(messages, tools))


def call(name: str, id: str = "c1") -> Message:
    calls: tuple[JsonObject, ...] = ({"id": id, "type": "function", "function": {"name": name, "arguments": {}}},)
    return Message("assistant", "", tool_calls=calls)


def result(id: str = "c1") -> Message:
    return Message("tool", "42", tool_call_id=id)


def test_rows_set_aside_are_one_finding_a_rule_with_place_and_byte(tmp_path: Path) -> None:
    good = '{"prompt": "a", "completion": "b"}\n'
    (tmp_path / "a.jsonl").write_text(good * 3 + '{"prompt": "a" "b"}\n' + good + "[1]\n{bad}\n")
    both = list(read(str(tmp_path / "a.jsonl"), DataSettings(), lambda words: None))
    rejected = [one for one in both if isinstance(one, Rejected)]
    found = find([one for one in both if isinstance(one, Row)], rejected)
    assert set(found) == {"invalid-json", "not-an-object"}
    finding = found["invalid-json"]
    assert finding.severity == "error" and len(finding.rows) == 2 and finding.repairs == ()
    assert "a.jsonl:4: Expecting ',' delimiter at byte 15" in finding.detail and "a.jsonl:7" in finding.detail
    assert "strict JSON" in finding.fix


def test_many_rows_set_aside_are_counted_but_not_all_named() -> None:
    rejected = [Rejected(f"r{n}", "a.jsonl", n, n, "some-rule", "It is wrong.") for n in range(1, 5001)]
    finding = find([], rejected)["some-rule"]
    assert len(finding.rows) == 5000 and "and 4,997 more" in finding.detail and len(finding.detail) < 300


def test_keys_that_nothing_reads_are_named_with_their_rows_and_columns_of_all_rows_without() -> None:
    told = {9: (UnreadKey("messages[].wieght", "weight"),), 12: (UnreadKey("note"),), 15: (UnreadKey("note"),)}
    rows = [
        replace(talk(ASK, ANSWER, line=line), unread=(UnreadKey("id"), *told.get(line, ()))) for line in range(1, 21)
    ]
    context = context_of(rows)
    misspelled, stray, columns = examine({"broken": Check(context)}, rows)["broken"]
    assert {one.kind for one in (misspelled, stray, columns)} == {"unknown-keys"}
    assert misspelled.severity == "warning" and misspelled.rows == ("r9",)
    assert "'messages[].wieght' (for 'weight'?) in 1 row, such as a.jsonl:9" in misspelled.detail
    assert stray.severity == "info" and stray.rows == ("r12", "r15") and "'note' in 2 rows" in stray.detail
    assert columns.severity == "info" and columns.rows == () and "'id' in 20 rows" in columns.detail


def test_a_thousand_names_of_keys_are_one_short_finding() -> None:
    rows = [replace(talk(ASK, ANSWER, line=line), unread=(UnreadKey(f"k{line}"),)) for line in range(1, 2001)]
    finding = find(rows)["unknown-keys"]
    assert len(finding.rows) == 1000 and len(finding.detail) < 700 and "more" in finding.detail


@pytest.mark.parametrize("answer", ["N/A", "n/a", "NULL", "TODO", "[placeholder]", "...", " --- ", "#N/A", "<TBD>"])
def test_a_filler_is_no_answer(answer: str) -> None:
    finding = find([talk(ASK, Message("assistant", answer))])["placeholder-answer"]
    assert finding.severity == "warning" and not finding.repairs[0].safe


def test_a_filler_that_many_rows_have_is_a_label() -> None:
    labels = [talk(ASK, Message("assistant", "none" if line % 9 else "some"), line=line) for line in range(99)]
    assert find(labels)["placeholder-answer"].severity == "info"
    assert (
        find([*labels[1:5], *(talk(ASK, ANSWER, line=200 + n) for n in range(300))])["placeholder-answer"].severity
        == "warning"
    )


@pytest.mark.parametrize("answer", ["no", "0", "?", "Nothing.", "None of them fits.", "!", "banana"])
def test_a_short_answer_is_an_answer(answer: str) -> None:
    assert find([talk(ASK, Message("assistant", answer))]) == {}


def test_turns_out_of_place_are_found() -> None:
    assert find([talk(ASK, ANSWER, ASK)])["ends-without-answer"].rows == ("r1",)
    assert find([talk(ASK, ASK, ANSWER)])["turns-in-a-row"].severity == "info"
    assert find([talk(Message("system", "Be brief."), ASK, ANSWER, ASK, ANSWER)]) == {}


def test_tools_need_their_results_and_definitions() -> None:
    weather: JsonObject = {"type": "function", "function": {"name": "weather"}}
    whole = (ASK, call("weather"), result(), ANSWER)
    assert find([talk(*whole, tools=(weather,)), talk(ASK, call("weather"), line=2)]) == {}
    assert set(find([talk(ASK, call("weather"), ASK, ANSWER)])) == {"call-without-result"}
    assert "time" in find([talk(ASK, call("time"), result(), ANSWER, tools=(weather,))])["unknown-tool"].detail
    assert set(find([talk(ASK, call("weather"), result("c2"), ANSWER)])) == {"result-without-call"}


def test_the_marks_of_a_merge_are_found_in_any_text() -> None:
    text = "one\n<<<<<<< HEAD\ntwo\n=======\nthree\n>>>>>>> branch"
    assert set(find([Row("r", "a.txt", 1, 1, Text(text))])) == {"conflict-marks"}
    assert set(find([talk(Message("user", text), ANSWER)])) == {"conflict-marks"}
    assert find([talk(Message("user", "1 << 3 >> 2 <<<<<<<<<<<"), ANSWER)]) == {}


def test_pairs_and_documents_pass() -> None:
    pair = Preference((ASK,), (ANSWER,), (Message("assistant", "Another."),))
    assert find([Row("r1", "a", 1, 1, pair), Row("r2", "a", 2, 2, Text("words"))]) == {}


def look(path: Path) -> tuple[list[Row], list[Rejected]]:
    """Read a file and let every check look at it; return what was read, nothing if it is refused as a whole."""
    try:
        both = list(read(str(path), DataSettings(), lambda words: None))
    except DataError as refused:
        assert str(refused)
        return [], []
    rows, rejected = [one for one in both if isinstance(one, Row)], [one for one in both if isinstance(one, Rejected)]
    context = Context(CheckSettings(), len(rows), lambda: iter(rows), rows.__getitem__, tuple(rejected))
    mine = [name for name in check_names() if name in ("broken", "characters", "private", "boilerplate", "weights")]
    examine(make_checks(mine, context), rows)
    return rows, rejected


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.txt", "a"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(data)
    look(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([".jsonl", ".csv"]))
def test_good_rows_with_bytes_changed_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, seed: int, suffix: str
) -> None:
    rows = b'{"prompt": "wh\xc3\xa9re", "completion": "h\xc3\xa9re"}\n' * 5
    data = bytearray(rows if suffix == ".jsonl" else b'prompt,completion\n"a ""b""\nc",d\n' * 5)
    for _ in range(1 + seed % 7):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        data[seed % len(data)] = (seed >> 33) % 256
    path = tmp_path_factory.mktemp("bytes") / f"a{suffix}"
    path.write_bytes(bytes(data))
    look(path)
