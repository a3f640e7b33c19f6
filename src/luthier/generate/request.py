"""What is asked of the serving engine, and what it tells while it answers; plain values, no torch."""

import math
from dataclasses import dataclass
from typing import Literal

from luthier.core.errors import DataError, ResourceError, SettingsError

MOST_LOGPROBS = 20
MOST_CHOICES = 128
MOST_STOPS = 16
_COLDEST = 1e-4
Ending = Literal["stop", "length", "tool_calls", "cancelled", "error"]


class QueueFull(ResourceError):
    """As many requests wait as may; the client should come again."""


class PromptTooLong(DataError):
    """A prompt that leaves no room for an answer in the model's context."""


class ToolsRefused(SettingsError):
    """Tools whose arguments cannot be held to their schemas."""


class ToolChoiceRefused(SettingsError):
    """A call that is asked for, of a model whose template writes none that could be held to."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request is decoded; the names and meanings are those of OpenAI's chat completions."""

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None

    def __post_init__(self) -> None:
        """Raise SettingsError that names every value out of its range."""
        ranges = (
            ("max_tokens", self.max_tokens, 1, math.inf),
            ("temperature", self.temperature, 0, 2),
            ("top_p", self.top_p, 0, 1),
            ("presence_penalty", self.presence_penalty, -2, 2),
            ("frequency_penalty", self.frequency_penalty, -2, 2),
            ("n", self.n, 1, MOST_CHOICES),
            ("logprobs", self.logprobs or 0, 0, MOST_LOGPROBS),
            ("stop", len(self.stop), 0, MOST_STOPS),
        )
        faults = [
            f"{name} is {value}; expected {low} to {high}"
            for name, value, low, high in ranges
            if not low <= value <= high
        ]
        if not all(self.stop):
            faults.append("stop has an empty string, which would end every answer")
        if faults:
            raise SettingsError("; ".join(faults) + ".")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken: nothing else is left at so low a temperature or so small a share."""
        return self.temperature < _COLDEST or self.top_p < _COLDEST


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools are to be called: perhaps, surely (`required`), or the one of that `name`; `parallel`: several at once."""

    required: bool = False
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token's text and logarithm of probability under the model, and the likeliest tokens in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of one choice's tool call, counted from 0: its id and name come first, its arguments' JSON text behind them."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one choice's answer; `tokens` only where log-probabilities were asked for, `calls` where tools were."""

    request: str
    choice: int
    text: str
    tokens: tuple[TokenLogprob, ...] = ()
    calls: tuple[CallPiece, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of one choice; nothing follows. `ids` are its tokens, `cached` the prompt tokens that were not computed."""

    request: str
    choice: int
    reason: Ending
    tokens_in: int
    cached: int
    ids: tuple[int, ...]
    error: str | None = None


Event = Delta | Finished
