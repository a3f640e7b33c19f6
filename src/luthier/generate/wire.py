"""What the engine's process and its parent say to each other: one JSON object a line, each with a `do` or a `tell`.

No torch, no pickle. A line is bounded, so that neither side can fill the other's memory with one.
"""

import json
from collections.abc import Iterator
from typing import IO, cast

from luthier.core.errors import (
    DataError,
    LuthierError,
    ModelError,
    ResourceError,
    RunFailed,
    SettingsError,
)
from luthier.core.types import JsonObject, JsonValue
from luthier.generate.request import (
    CallPiece,
    Delta,
    Ending,
    Event,
    Finished,
    PromptTooLong,
    QueueFull,
    TokenLogprob,
    ToolChoiceRefused,
    ToolsRefused,
)

LONGEST_LINE = 64 << 20
_KINDS: dict[str, type[LuthierError]] = {
    kind.__name__: kind
    for kind in (
        DataError, ModelError, PromptTooLong, QueueFull, ResourceError, RunFailed, SettingsError, ToolChoiceRefused,
        ToolsRefused,
    )
}  # fmt: skip


def write_line(pipe: IO[bytes], message: JsonObject) -> None:
    """Write one message and flush it."""
    pipe.write(json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    pipe.flush()


def read_lines(pipe: IO[bytes]) -> Iterator[JsonObject]:
    """Yield messages until the other side closes; raise RunFailed for a line that is none."""
    while line := pipe.readline(LONGEST_LINE + 1):
        if not line.endswith(b"\n"):
            if len(line) > LONGEST_LINE:
                raise RunFailed(f"a message has more than {LONGEST_LINE:,} bytes.")
            return
        try:
            message = json.loads(line)
        except ValueError as error:
            raise RunFailed(f"the engine's process said what is no JSON: {line[:100]!r}") from error
        if not isinstance(message, dict):
            raise RunFailed(f"the engine's process said what is no object: {line[:100]!r}")
        yield message


def error_as_json(error: LuthierError) -> JsonObject:
    """Write an error with the nearest of its kinds that may travel, so that the other side can raise the same."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"kind": next((kind for kind in kinds if kind in _KINDS), kinds[0]), "message": str(error)}


def error_from_json(value: JsonValue) -> LuthierError:
    """Return the error that the other side raised; a kind that may not travel becomes RunFailed."""
    assert isinstance(value, dict)
    return _KINDS.get(str(value["kind"]), RunFailed)(str(value["message"]))


def event_as_json(event: Event) -> JsonObject:
    """Write what happened to a choice."""
    if isinstance(event, Delta):
        tokens: JsonValue = [[token.text, token.logprob, [list(one) for one in token.top]] for token in event.tokens]
        calls: JsonValue = [[piece.index, piece.id, piece.name, piece.arguments] for piece in event.calls]
        return {
            "tell": "delta", "id": event.request, "choice": event.choice, "text": event.text, "tokens": tokens, "calls": calls,
        }  # fmt: skip
    return {
        "tell": "end", "id": event.request, "choice": event.choice, "reason": event.reason, "tokens_in": event.tokens_in,
        "cached": event.cached, "ids": list(event.ids), "error": event.error,
    }  # fmt: skip


def event_from_json(message: JsonObject) -> Event:
    """Read what `event_as_json` wrote."""
    name, choice = str(message["id"]), cast(int, message["choice"])
    if message["tell"] == "delta":
        tokens = tuple(_token(token) for token in _items(message["tokens"]))
        return Delta(name, choice, str(message["text"]), tokens, tuple(map(_call, _items(message["calls"]))))
    error = message["error"]
    return Finished(
        name, choice, cast(Ending, message["reason"]), cast(int, message["tokens_in"]), cast(int, message["cached"]),
        tuple(cast("list[int]", message["ids"])), None if error is None else str(error),
    )  # fmt: skip


def _token(value: JsonValue) -> TokenLogprob:
    text, logprob, top = _items(value)
    pairs = [_items(pair) for pair in _items(top)]
    return TokenLogprob(str(text), float(str(logprob)), tuple((str(one), float(str(log))) for one, log in pairs))


def _call(value: JsonValue) -> CallPiece:
    index, name, function, arguments = _items(value)
    return CallPiece(cast(int, index), cast("str | None", name), cast("str | None", function), str(arguments))


def _items(value: JsonValue) -> list[JsonValue]:
    assert isinstance(value, list)
    return value
