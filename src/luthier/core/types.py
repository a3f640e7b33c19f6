"""The values that travel between rooms: rows, rendered sequences, completions, grades.

All are frozen. Chat messages follow OpenAI's chat format; arrays are numpy, so that this
room needs no torch.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = dict[str, JsonValue]
Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `weight` 0 marks a turn that is context only and never trained; in `sft` that is every turn but the assistant's.
    `tool_calls` keeps OpenAI's shape: `{"id", "type", "function": {"name", "arguments"}}`.
    """

    role: Role
    content: str
    weight: int = 1
    reasoning: str | None = None
    tool_calls: tuple[JsonObject, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def as_dict(self) -> JsonObject:
        """Return the message as chat templates and files write it, without absent fields."""
        out: JsonObject = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            out["reasoning_content"] = self.reasoning
        if self.tool_calls:
            out["tool_calls"] = list(self.tool_calls)
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            out["name"] = self.name
        if self.weight == 0:
            out["weight"] = 0
        return out


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, with the tools that the assistant may call."""

    messages: tuple[Message, ...]
    tools: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with a better and a worse continuation (one or more messages each)."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A plain document, trained on every token."""

    text: str


Content = Conversation | Preference | Text


class UnreadKey(NamedTuple):
    """A key of a record that nothing reads; `like` is a key that would be read, spelled nearly the same."""

    path: str
    like: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One usable input row.

    `id` comes from the file's SHA-256 and the 1-based record number; `line` is the 1-based
    physical line on which the record begins; `group` is the value of the user's group column. `unread` are
    the keys of the record that its format does not know.
    """

    id: str
    file: str
    line: int
    record: int
    content: Content
    group: str | None = None
    unread: tuple[UnreadKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """One input row that could not be used: `rule` is a short kebab-case name, `detail` a sentence."""

    id: str
    file: str
    line: int
    record: int
    rule: str
    detail: str


Action = Literal["keep", "fix", "drop", "set aside"]


@dataclass(frozen=True, slots=True)
class Repair:
    """What could be done about one row. Only a `safe` one is done without a person's word.

    `content` is the row's new content where the finding knows it; a safe `fix` without content is
    made by the check's own `repair`.
    """

    row: str
    action: Action
    safe: bool
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a data check found about one group of rows."""

    check: str
    kind: str
    severity: Literal["info", "warning", "error"]
    confidence: float
    rows: tuple[str, ...]
    detail: str
    fix: str
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """One token sequence made from a row.

    `tokens_L` is int32; `weight_L` is float32 and aligned with it: `weight_L[i]` is the weight
    of predicting `tokens_L[i]` from what stands before it (0: not trained; `weight_L[0]` is 0).
    A row whose template rewrites history renders to several sequences, one a trained turn.
    """

    row: str
    tokens_L: np.ndarray
    weight_L: np.ndarray
    lost_tokens: int = 0

    @property
    def num_trained(self) -> int:
        """The number of targets: tokens that carry weight."""
        return int(np.count_nonzero(self.weight_L))


class Segment(NamedTuple):
    """A run of tokens in a token tree: what the rows behind it share, or what one row has alone.

    It lies at `start` in the flat tree: `length` tokens, and padding up to `place` positions. `depth` tokens
    stand before it in each of its rows, in the segments up from number `parent` (-1: none; it begins its rows).
    """

    start: int
    length: int
    place: int
    depth: int
    parent: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: the row that it belongs to, its token ids, and the words of the question alone.

    `question` is what answers may have to be copied from: no examples, passages or instructions that an arm adds.
    """

    row: str
    tokens: tuple[int, ...]
    question: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered: `text` without the end-of-turn token, `seconds` its share of the batch.

    `log_probability` is that of the whole answer, the end of turn included, None where unknown; where decoding is held to a form it
    is that among the answers of this form, step by step.
    """

    row: str
    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    seconds: float
    log_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Grade:
    """How good one answer is: `score` in [0, 1], and counts or marks that the grader adds up."""

    score: float
    marks: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval, ends included."""

    low: float
    high: float


class Grader(Protocol):
    """A metric on one answer; its marks add up to metrics over many."""

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion against the wanted answer."""
        ...

    def metrics(self, grades: SequenceOf[Grade]) -> dict[str, JsonValue]:
        """Add the grades of many answers up; never called with an empty list."""
        ...


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that Luthier uses outside `models/`."""

    eos_token_id: int | None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: SequenceOf[int], *, skip_special_tokens: bool) -> str: ...


class Generator(Protocol):
    """Prompts to completions, in the order of the prompts."""

    def __call__(self, prompts: SequenceOf[Prompt]) -> Iterable[Completion]: ...
