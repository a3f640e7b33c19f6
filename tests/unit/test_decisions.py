"""Several findings on one row make one decision, and mended content goes back into the row's own keys."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.config.settings import DataSettings
from luthier.core.types import Action, Content, Conversation, Finding, JsonObject, Message, Repair, Row, Text
from luthier.data.decisions import Touch, settle, touches_by_row
from luthier.data.read import read_records_from_python
from luthier.data.rewrite import Change, messages_record, rewritten


class Softly:
    """A repair that takes the shouting out."""

    def repair(self, content: Content) -> Content:
        if isinstance(content, Text):
            return Text(content.text.replace("!", "."))
        assert isinstance(content, Conversation)
        turns = tuple(replace(turn, content=turn.content.replace("!", ".")) for turn in content.messages)
        return replace(content, messages=turns)


def chat(*texts: str) -> Conversation:
    return Conversation(tuple(Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)))


def touch(check: str, action: Action, safe: bool, content: Content | None = None) -> Touch:
    repair = Repair("row", action, safe, content)
    return Touch(Finding(check, "kind", "warning", 1.0, ("row",), "detail", "fix", (repair,)), repair)


@pytest.mark.parametrize(
    ("actions", "winner"),
    [
        (("fix", "drop", "set aside"), "drop"), (("fix", "set aside", "keep"), "set aside"),
        (("keep", "fix"), "fix"), (("keep",), "keep"), ((), "keep"),
    ],
)  # fmt: skip
def test_the_strongest_action_wins(actions: tuple[Action, ...], winner: Action):
    touches = [touch(f"check_{place}", action, True, chat("a", "b")) for place, action in enumerate(actions)]
    assert settle(chat("a", "x"), touches, {}, safe=True).action == winner


def test_an_unsafe_repair_is_only_proposed():
    touches = [touch("labels", "drop", False)]
    assert settle(chat("a", "x"), touches, {}, safe=True).action == "keep"
    assert settle(chat("a", "x"), touches, {}, safe=False).action == "drop"


def test_a_proposed_content_goes_through_the_repairs_of_other_checks():
    touches = [touch("softly", "fix", True), touch("labels", "fix", False, chat("Oh!", "right"))]
    checks = {"softly": Softly()}
    assert settle(chat("Oh!", "wrong"), touches, checks, safe=True).content == chat("Oh.", "wrong")  # type: ignore[arg-type]
    assert settle(chat("Oh!", "wrong"), touches, checks, safe=False).content == chat("Oh.", "right")  # type: ignore[arg-type]


def test_a_repair_that_changes_nothing_is_no_fix():
    assert settle(chat("Oh", "x"), [touch("softly", "fix", True)], {"softly": Softly()}, safe=True).action == "keep"  # type: ignore[dict-item]


def test_a_hint_touches_only_the_rows_that_it_would_repair():
    repair = Repair("b", "fix", False, chat("a", "b"))
    hint = Finding("labels", "kind", "info", 0.5, ("a", "b"), "detail", "fix", (repair,))
    warning = Finding("copies", "kind", "warning", 1.0, ("a",), "detail", "fix")
    touches = touches_by_row([hint, warning])
    assert {row: [one.finding.check for one in found] for row, found in touches.items()} == {
        "a": ["copies"], "b": ["labels"],
    }  # fmt: skip


def reread(rows: list[JsonObject]) -> list[Content | None]:
    read = read_records_from_python(rows, DataSettings(), lambda words: None)
    return [row.content if isinstance(row, Row) else None for row, _ in read]


SHAPES: list[JsonObject] = [
    {"text": "Ah! one", "label": "a!", "n": 1.0},
    {"instruction": "Say it!", "input": "Ah! one", "output": "a!"},
    {"prompt": "Ah! one", "completion": "a!"},
    {"messages": [{"role": "user", "content": "Ah!"}, {"role": "assistant", "content": "a!"}], "id": 3},
    {"conversations": [{"from": "human", "value": "Ah!"}, {"from": "gpt", "value": "a!"}]},
]


@pytest.mark.parametrize("record", SHAPES)
def test_a_repair_goes_back_into_the_rows_own_keys(record: JsonObject):
    (before,) = reread([record])
    assert before is not None
    (written,) = rewritten([Change(record, before, Softly().repair(before), (Softly(),))], reread)  # type: ignore[arg-type]
    assert written is not None and list(written) == list(record)
    assert reread([written]) == [Softly().repair(before)]
    assert "!" not in str(written) and written.get("n") == record.get("n")


def test_a_new_label_goes_into_the_column_of_the_label_alone():
    record: JsonObject = {"text": "is it a or b?", "label": "a"}
    (written,) = rewritten([Change(record, chat("is it a or b?", "a"), chat("is it a or b?", "b"))], reread)  # type: ignore[arg-type]
    assert written == {"text": "is it a or b?", "label": "b"}


def test_what_fits_no_key_is_written_as_messages():
    record: JsonObject = {"text": "a?", "label": "b"}
    longer = chat("a?", "b", "and?", "c")
    assert rewritten([Change(record, chat("a?", "b"), longer)], reread) == [messages_record(longer)]  # type: ignore[arg-type]


def test_what_cannot_be_read_back_is_not_written():
    change = Change({"text": "a?", "label": "b"}, chat("a?", "b"), chat("a?", "c"))
    assert rewritten([change], lambda rows: [None] * len(rows)) == [None]


@given(st.lists(st.tuples(st.text("ab! ?", min_size=1), st.text("ab! ?", min_size=1)), min_size=1, max_size=5))
def test_whatever_is_written_reads_as_it_should(pairs: list[tuple[str, str]]):
    records: list[JsonObject] = [{"text": asked, "label": answered} for asked, answered in pairs]
    changes = [
        Change(record, content, Softly().repair(content), (Softly(),))
        for record, content in zip(records, reread(records))
        if content is not None
    ]
    written = rewritten(changes, reread)  # type: ignore[arg-type]
    usable = [record for record in written if record is not None]
    assert len(usable) == len(changes)
    assert reread(usable) == [change.after for change in changes]
