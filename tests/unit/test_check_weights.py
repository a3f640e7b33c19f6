"""Rows and turns that train nothing are counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.types import Content, Conversation, Finding, Message, Preference, Row, Text
from luthier.data.checking import context_of
from luthier.data.checks.weights import Check
from luthier.data.examine import examine

ASK = Message("user", "What is it?")
SAID, SILENT = Message("assistant", "A test."), Message("assistant", "A test.", weight=0)
CALL = Message("assistant", "", tool_calls=({"type": "function", "function": {"name": "f", "arguments": {}}},))


def find(*contents: Content) -> dict[str, Finding]:
    rows = [Row(f"r{line}", "a.jsonl", line, line, content) for line, content in enumerate(contents, 1)]
    return {one.kind: one for one in examine({"weights": Check(context_of(rows))}, rows)["weights"]}


@pytest.mark.parametrize(
    "content",
    [
        Conversation((ASK,)),
        Conversation(()),
        Conversation((ASK, SILENT)),
        Conversation((ASK, Message("assistant", "  "))),
        Preference((ASK,), (SILENT,), (SILENT,)),
        Text(" \n"),
    ],
)
def test_a_row_that_trains_nothing_is_an_error(content: Content) -> None:
    finding = find(content, Conversation((ASK, SAID)))["nothing-trained"]
    assert finding.severity == "error" and finding.rows == ("r1",)


@pytest.mark.parametrize(
    "content",
    [Conversation((ASK, SAID)), Conversation((ASK, CALL)), Preference((ASK,), (SAID,), (CALL,)), Text("words")],
)
def test_a_row_that_trains_something_is_right(content: Content) -> None:
    assert find(content) == {}


def test_turns_of_weight_0_are_counted_with_their_share() -> None:
    some = find(Conversation((ASK, SILENT, ASK, SAID)), Conversation((ASK, SAID, ASK, SAID)))["turns-of-weight-0"]
    assert some.severity == "info" and some.rows == ("r1",) and "25.0%" in some.detail and "1 of 2" in some.detail
    assert find(Conversation((ASK, SILENT, ASK, SILENT, ASK, SAID)))["turns-of-weight-0"].severity == "warning"


@given(st.lists(st.tuples(st.text(), st.sampled_from([0, 1])), max_size=5))
def test_any_turns_are_survived(turns: list[tuple[str, int]]) -> None:
    messages = [turn for text, weight in turns for turn in (ASK, Message("assistant", text, weight=weight))]
    assert bool(find(Conversation(tuple(messages))).get("nothing-trained")) == (
        not any(weight and text.strip() for text, weight in turns)
    )
