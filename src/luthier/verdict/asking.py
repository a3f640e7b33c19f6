"""What arms make their prompts of, and the ways of asking that they propose.

An arm proposes candidates; which of them it uses is decided on validation rows, elsewhere. Nothing here has ever seen
the test part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from luthier.config.settings import CompareSettings
from luthier.core.types import Message
from luthier.data.knowledge import Document
from luthier.verdict.questions import Question

Weights = Literal["base", "tuned", "endpoint"]
# What a chat template writes around a turn, about; examples are two turns.
_MARKERS = 8


class Sources(NamedTuple):
    """The training part, the user's system prompts and the user's knowledge, proven to hold nothing of the test."""

    pool: tuple[Question, ...]
    prompts: tuple[Document, ...] = ()
    documents: tuple[Document, ...] = ()


@dataclass(frozen=True)
class Material:
    """What prompts are made of; `gather` reads and proves it once an arm first asks for any of it.

    `system_role` tells whether the model's chat template knows system messages, `trained_with` how many passages stood
    before the questions in training.
    """

    gather: Callable[[], Sources]
    settings: CompareSettings
    grader: str
    count_tokens: Callable[[str], int]
    seed: int = 0
    system_role: bool = True
    trained_with: int = 0

    @cached_property
    def sources(self) -> Sources:
        """All that prompts are made of."""
        return self.gather()

    @property
    def pool(self) -> tuple[Question, ...]:
        """The training part."""
        return self.sources.pool

    @cached_property
    def examples(self) -> tuple[Question, ...]:
        """The training questions that can be shown: those with a text to ask and a text to answer."""
        return tuple(one for one in self.pool if one.text.strip() and one.wanted.strip() and not one.tools)

    def cost(self, text: str) -> int:
        """Return the tokens that a text takes in a prompt, with the marks around it."""
        return self.count_tokens(text) + _MARKERS

    def fitting(self, texts: Sequence[str], most: int, room: int) -> list[int]:
        """Return the places of the first `most` texts that fit into `room` tokens together; a long one is passed over."""
        left, chosen = room, []
        for place, text in enumerate(texts):
            if len(chosen) == most or left <= _MARKERS:
                break
            cost = self.cost(text)
            if cost <= left:
                chosen.append(place)
                left -= cost
        return chosen


class Ask(Protocol):
    """Makes the messages for a question; what it adds to them takes at most `room` tokens."""

    def __call__(self, question: Question, room: int) -> tuple[Message, ...]:
        """Return the messages that the model is given."""
        ...


@dataclass(frozen=True)
class Candidate:
    """One way of asking, by the name under which the choice is recorded."""

    name: str
    ask: Ask


class PromptingArm(Protocol):
    """An arm whose answers a language model writes: with the base or the tuned weights, or behind an endpoint."""

    weights: Weights
    description: str

    def candidates(self, material: Material) -> list[Candidate]:
        """Return the ways of asking among which validation chooses; the simplest first."""
        ...


def _unchanged(question: Question, room: int) -> tuple[Message, ...]:
    return question.messages


AS_THE_ROWS_STAND = Candidate("as the rows stand", _unchanged)


def with_system(question: Question, text: str, system_role: bool) -> tuple[Message, ...]:
    """Return the messages under another system prompt; a template without system messages gets it before the first turn."""
    rest = tuple(message for message in question.messages if message.role != "system")
    if system_role or not rest or rest[0].role != "user":
        return (Message("system", text), *rest)
    return (replace(rest[0], content=f"{text}\n\n{rest[0].content}"), *rest[1:])


def with_turns(question: Question, examples: Sequence[Question]) -> tuple[Message, ...]:
    """Return the messages with examples as finished turns behind the system prompt."""
    start = next((place for place, one in enumerate(question.messages) if one.role != "system"), 0)
    shown = [turn for one in examples for turn in (Message("user", one.text), Message("assistant", one.wanted))]
    return (*question.messages[:start], *shown, *question.messages[start:])


def with_context(question: Question, passages: Sequence[str]) -> tuple[Message, ...]:
    """Return the messages with numbered passages before the last question, in its own turn."""
    last = max((place for place, one in enumerate(question.messages) if one.role == "user"), default=None)
    if last is None or not passages:
        return question.messages
    asked = question.messages[last]
    context = "\n\n".join(f"[{number}] {passage}" for number, passage in enumerate(passages, start=1))
    told = replace(asked, content=f"Context:\n{context}\n\nQuestion: {asked.content}")
    return (*question.messages[:last], told, *question.messages[last + 1 :])
