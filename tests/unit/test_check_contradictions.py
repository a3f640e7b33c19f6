"""The same question with two answers is found, near-same ones too, and different questions are left alone."""

import json
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.types import Conversation, Finding, Message, Row
from luthier.data.checking import context_of
from luthier.data.checks.contradictions import Check
from luthier.data.examine import examine
from luthier.data.near_same import near_key
from luthier.data.normal import answer

OTHERS = [f"what of {name}" for name in "ants bees cats dogs eels frogs geese hens".split()]


def row(line: int, asked: str, said: str, system: str | None = None) -> Row:
    turns = (Message("user", asked), Message("assistant", said))
    turns = turns if system is None else (Message("system", system), *turns)
    return Row(f"r{line}", "a.jsonl", line, line, Conversation(turns))


def find(rows: Sequence[Row]) -> list[Finding]:
    return examine({"contradictions": Check(context_of(rows))}, rows)["contradictions"]


def labelled(*pairs: tuple[str, str]) -> list[Row]:
    others = [(text, label) for text in OTHERS for label in ("fee", "limit")[len(text) % 2 :][:1]]
    return [row(line, asked, said) for line, (asked, said) in enumerate([*pairs, *others], start=1)]


@pytest.mark.parametrize(
    ("one", "other", "confidence"),
    [
        ("Is there a fee for cards?", "is there a fee for cards", 0.95),
        ("Is there a fee for the card, please?", "Hi, is there a fee for a card", 0.75),
        ("How do I get disposable virtual cards", "how do i get a disposable virtual card?", 0.75),
    ],
)
def test_the_same_and_nearly_the_same_question_contradict(one: str, other: str, confidence: float) -> None:
    (finding,) = find(labelled((one, "fee"), (other, "limit")))
    assert finding.rows == ("r1", "r2") and finding.kind == "label" and finding.severity == "warning"
    assert finding.confidence == confidence and finding.repairs == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("transfer 50 euros to my savings account", "transfer 500 euros to my savings account"),
        ("the card is working in the shop", "the card is not working in the shop"),
        ("play a song by maria on the radio", "play a song by mario on the radio"),
        ("transfer money from cash to savings", "transfer money from savings to cash"),
        ("what is my name in the app", "what is your name in the app"),
        ("can i pay with the card abroad", "can i pay without the card abroad"),
        ("thank you", "no thank you"),
    ],
)
def test_a_number_a_negation_a_name_or_another_order_makes_another_question(one: str, other: str) -> None:
    assert near_key(one) != near_key(other)
    assert find(labelled((one, "fee"), (other, "limit"))) == []


def test_the_majority_is_proposed_and_never_safe() -> None:
    rows = labelled(*[("is there a fee", "fee"), ("Is there a fee?", "Fee"), ("is there a fee!", "limit")])
    (finding,) = find(rows)
    (repair,) = finding.repairs
    assert (repair.row, repair.action, repair.safe) == ("r3", "fix", False) and repair.content is not None
    assert answer(Row("x", "x", 1, 1, repair.content)) == "fee"
    assert "2 of 3 rows" in finding.fix


def test_the_json_fields_that_differ_are_named_and_the_order_of_keys_is_no_difference() -> None:
    asked = "book a table for two at eight"
    rows = [
        row(1, asked, json.dumps({"intent": "book", "slots": {"people": 2, "time": "eight"}})),
        row(2, asked, json.dumps({"slots": {"time": "eight", "people": 3}, "intent": "book"})),
        row(3, asked, json.dumps({"slots": {"time": "eight", "people": 2}, "intent": "book"})),
    ]
    (finding,) = find(rows)
    assert finding.kind == "field" and finding.severity == "warning"
    assert "'slots.people' is '2' (a.jsonl:1) and '3' (a.jsonl:2)" in finding.detail
    assert "'intent' is" not in finding.detail and [one.row for one in finding.repairs] == ["r2"]
    assert find([rows[0], rows[2]]) == []


def test_values_cut_out_of_nearly_the_same_question_do_not_contradict() -> None:
    said = [json.dumps({"type": text}) for text in ("movie schedule", "movie schedules")]
    assert find([row(1, "show me the movie schedule", said[0]), row(2, "show me movie schedules", said[1])]) == []


def test_texts_far_apart_are_a_hint_and_like_texts_are_none() -> None:
    near = ["It takes two days to arrive by post.", "It takes two days to arrive by the post."]
    assert find([row(1, "how long", near[0]), row(2, "how long", near[1])]) == []
    (hint,) = find([row(1, "how long", near[0]), row(2, "how long", "Sorry, cards cannot be sent abroad.")])
    assert (hint.kind, hint.severity, hint.repairs) == ("text", "info", ())
    (numbers,) = find(
        [row(1, "how long", "It takes 2 days to arrive."), row(2, "how long", "It takes 9 days to arrive.")]
    )
    assert numbers.kind == "text"


def test_another_system_prompt_asks_for_another_answer() -> None:
    assert find([row(1, "hi there you", "hello", "Be kind."), row(2, "hi there you", "ahoy", "Be a pirate.")]) == []


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=12))
def test_any_rows_are_looked_at_and_a_finding_has_two_answers(pairs: list[tuple[str, str]]) -> None:
    rows = [row(line, asked, said) for line, (asked, said) in enumerate(pairs, start=1)]
    by_id = {one.id: one for one in rows}
    for finding in find(rows):
        assert len({answer(by_id[one]) for one in finding.rows}) > 1


def test_fifty_thousand_rows_take_seconds_and_little_memory_each() -> None:
    rows = [row(line, f"the question number {line} of a long list", f"label {line % 9}") for line in range(50_000)]
    check = Check(context_of(rows))
    started = time.monotonic()
    for position, one in enumerate(rows):
        list(check.see(position, one))
    assert list(check.end()) == []
    assert time.monotonic() - started < 15
