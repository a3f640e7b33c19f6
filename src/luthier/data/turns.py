"""What a rendered conversation is cut into: turns as served, stretches that are trained or not, and where texts part."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.core.types import Conversation, Message
from luthier.data.encode import unmark
from luthier.data.problems import RowProblem


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn as served: both texts are marked (see data/encode.py).

    `prompt` ends with the generation prompt; `answer` ends with the end-of-turn token.
    """

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a rendered conversation, all trained or all not; `text` is marked."""

    text: str
    trained: bool


def answered(conversation: Conversation) -> list[int]:
    """The places of the assistant turns that are trained."""
    return [i for i, one in enumerate(conversation.messages) if one.role == "assistant" and one.weight > 0]


def untrained(conversation: Conversation) -> list[int]:
    """The places of the messages from which nothing is learned."""
    return [i for i, one in enumerate(conversation.messages) if one.weight == 0]


def check_calls(message: Message, answer: str) -> None:
    """Raise RowProblem for an answer from which the template has left out a call: it would train the model not to call."""
    names = [
        str(function.get("name")) for call in message.tool_calls if isinstance(function := call.get("function"), dict)
    ]
    text = unmark(answer)
    lost = [name for name in names if text.count(name) < names.count(name)]
    if lost:
        raise RowProblem(
            "tool-call-not-rendered",
            f"the model's chat template leaves out a call of {lost[0]!r}, so that the model would learn to answer without "
            "it. Choose a model whose template writes tool calls, or give such messages the weight 0.",
        )


def text_of(found: str | RowProblem) -> str:
    """Return the text, or raise the problem that stands in its place."""
    if isinstance(found, RowProblem):
        raise found
    return found


def length_of_start(whole: str, start: str) -> int:
    """Return where `start` ends in a text that begins with it; raise RowProblem for one that does not."""
    if not whole.startswith(start):
        raise differs(start, whole)
    return len(start)


def first_difference(a: str, b: str) -> int:
    """Return the first place at which two texts differ, the end of the shorter where it is the beginning of the other."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def differs(prompt: str, full: str) -> RowProblem:
    """Say where a trained text does not go on from the prompt that is served."""
    prompt, full = unmark(prompt), unmark(full)
    at = first_difference(prompt, full)
    return RowProblem(
        "cannot-render-as-served",
        f"the chat template does not go on from its own prompt: at character {at} the prompt has "
        f"{prompt[at : at + 40]!r} and the trained text {full[at : at + 40]!r}.",
    )
