"""The file of a batch, line by line: which requests it holds, and every fault with its line, its byte offset and its rule.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}

Only the envelope is looked at here. A request whose body is wrong is answered with its own error, beside the others.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from luthier.core.types import JsonObject, JsonValue

_MOST_SHOWN = 100
_NAME_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """How many requests a batch may hold, and how many bytes one of them."""

    requests: int
    line_bytes: int


@dataclass(frozen=True, slots=True)
class Item:
    """One request: the name that its owner gave it, and what it asks for."""

    custom_id: str
    body: JsonObject


@dataclass
class Examined:
    """What a file holds: its requests, the model that all of them name, and the first hundred faults."""

    total: int = 0
    models: set[str] = field(default_factory=set[str])
    errors: list[JsonValue] = field(default_factory=list[JsonValue])

    @property
    def model(self) -> str | None:
        """The one model that is asked; None when there are several or none."""
        return next(iter(self.models)) if len(self.models) == 1 else None

    def refuse(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        """Note a fault as the API tells it."""
        if len(self.errors) < _MOST_SHOWN:
            self.errors.append({"code": code, "message": message, "line": line, "param": param})


class _Fault(Exception):
    """What is wrong with a line."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def examine(path: Path, endpoint: str, limits: Limits) -> Examined:
    """Read a file to its end, and return what it holds; with a fault in it, none of it will be asked."""
    found, known = Examined(), set[str]()
    for number, offset, line in _lines(path, limits.line_bytes):
        try:
            item = _item(line, endpoint, limits.line_bytes)
            if item.custom_id in known:
                message = f"the custom_id {item.custom_id!r} was given to an earlier line; each needs one of its own"
                raise _Fault("duplicate_custom_id", message, "custom_id")
        except _Fault as fault:
            found.refuse(fault.code, f"line {number} (byte {offset}): {fault}.", number, fault.param)
            continue
        known.add(item.custom_id)
        found.total += 1
        found.models.add(str(item.body.get("model")))
        if found.total > limits.requests:
            found.refuse("too_many_requests", f"the file has more than the {limits.requests} requests of a batch.")
            break
    if not found.total and not found.errors:
        found.refuse("empty_file", "the file holds no request.")
    return found


def items(path: Path, endpoint: str, limits: Limits) -> Iterator[Item]:
    """Yield the requests of a file that was found to be without a fault."""
    for _, _, line in _lines(path, limits.line_bytes):
        yield _item(line, endpoint, limits.line_bytes)


def _lines(path: Path, most_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield each line that is not blank with its number, from 1, and its byte offset; of a longer one no more than told."""
    with path.open("rb") as stream:
        number, offset = 0, 0
        while piece := stream.readline(most_bytes + 1):
            number, size = number + 1, len(piece)
            line = piece
            while not piece.endswith(b"\n") and (piece := stream.readline(most_bytes + 1)):
                size += len(piece)
            if line.strip():
                yield number, offset, line
            offset += size


def _item(line: bytes, endpoint: str, most_bytes: int) -> Item:
    if len(line.rstrip(b"\r\n")) > most_bytes:
        raise _Fault("line_too_long", f"the line is longer than the {most_bytes} bytes that a request may have")
    value = _object(line)
    custom_id, body = value.get("custom_id"), value.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _NAME_LENGTH:
        raise _Fault("invalid_custom_id", f"expected a custom_id of 1 to {_NAME_LENGTH} characters", "custom_id")
    if value.get("method") != "POST":
        raise _Fault("invalid_method", "expected the method 'POST'", "method")
    if value.get("url") != endpoint:
        raise _Fault("invalid_url", f"expected the url {endpoint!r}, which the batch was made for", "url")
    if not isinstance(body, dict):
        raise _Fault("invalid_body", "expected a body that is a JSON object", "body")
    if unknown := value.keys() - {"custom_id", "method", "url", "body"}:
        raise _Fault("unknown_parameter", f"the key {min(unknown)[:64]!r} is not known", min(unknown)[:64])
    return Item(custom_id, body)


def _object(line: bytes) -> JsonObject:
    try:
        value: JsonValue = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates are refused here
    except (ValueError, RecursionError) as error:
        raise _Fault("invalid_json_line", f"not JSON that can be used: {error}") from error
    if not isinstance(value, dict):
        raise _Fault("invalid_json_line", "expected a JSON object")
    return value


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is not JSON")
