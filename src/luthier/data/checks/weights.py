"""Rows and turns from which nothing is learned.

Rows without any turn to train are set aside on reading, and `broken` reports them. What is left are
rows that came another way, and turns of weight 0, which are context only: right where they are
meant, a silent loss where a conversion wrote them.

What it cannot see: turns that are cut off because the row is too long (`lengths` tells), and whether
a weight of 0 was meant.
"""

from collections.abc import Iterable
from typing import ClassVar

from luthier.core.types import Content, Conversation, Finding, Message, Preference, Row, Text
from luthier.data.checking import Context, Dimension
from luthier.data.gathered import Fault, Gathered


class Check:
    """Count rows that train nothing, and turns of weight 0."""

    dimension: ClassVar[Dimension] = "valid"
    effect: ClassVar[str] = "the row costs time and teaches nothing; a loss over no targets is zero or not a number"
    blind: ClassVar[str] = "whether a weight of 0 was meant, and turns that are cut off for their length"

    def __init__(self, context: Context) -> None:
        self._found = Gathered()
        self._num_turns = self._num_silent = 0

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Count the row's turns of the assistant, and those of them that are trained."""
        answers = _answers(row.content)
        silent = sum(message.weight == 0 for message in answers)
        self._num_turns += len(answers)
        self._num_silent += silent
        if not _trains(row.content, answers):
            self._found.add("nothing-trained", row)
        elif silent:
            self._found.add("turns-of-weight-0", row, f"{silent} of {len(answers)}")
        return ()

    def end(self) -> Iterable[Finding]:
        """Report both kinds, with the share of turns that are not trained."""
        share = self._num_silent / max(self._num_turns, 1)
        return self._found.findings("weights", {"nothing-trained": _NOTHING, "turns-of-weight-0": _silent(share)})


def _answers(content: Content) -> list[Message]:
    match content:
        case Conversation(messages=messages):
            return [message for message in messages if message.role == "assistant"]
        case Preference(chosen=chosen, rejected=rejected):
            return [message for message in (*chosen, *rejected) if message.role == "assistant"]
        case Text():
            return []


def _trains(content: Content, answers: list[Message]) -> bool:
    if isinstance(content, Text):
        return bool(content.text.strip())
    return any(message.weight and (message.content.strip() or message.tool_calls) for message in answers)


_NOTHING = Fault(
    "error",
    1.0,
    "hold nothing to train: no turn of the assistant with text and a weight",
    "Give the turn that should be learned the weight 1, or drop the row.",
)


def _silent(share: float) -> Fault:
    says = f"hold turns of the assistant with weight 0, which are {share:.1%} of all its turns and train nothing"
    fix = "Nothing needs to be done if they are context only; else take their weight out."
    return Fault("info" if share < 0.5 else "warning", 0.9, says, fix)
