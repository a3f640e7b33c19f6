"""JSON to records: JSON lines, arrays, and arrays wrapped under a key.

Strict where leniency would train on something else than was written: NaN, a key that stands
twice and half surrogate pairs cost the row.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import NoReturn

from luthier.core.errors import DataError
from luthier.core.types import JsonObject, JsonValue
from luthier.data.lines import read_lines, read_text
from luthier.data.problems import RowProblem
from luthier.data.records import Broken, Record
from luthier.data.sources import Source

MOST_DEPTH = 64
MOST_DOCUMENT_BYTES = 1 << 30
_SPACE = re.compile(r"[ \t\r\n]*")
_MOST_WRAPPING = 3


def parse_json(text: str) -> JsonValue:
    """Parse one JSON text strictly; raise RowProblem with the byte offset of what is wrong."""
    try:
        value = _STRICT.decode(text)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode("utf-8", "surrogatepass"))
        raise RowProblem("invalid-json", f"{error.msg.removesuffix(' at')} at byte {offset}") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # an integer of thousands of digits
        raise RowProblem("invalid-json", f"a number cannot be read: {error}") from error
    _ensure_sound(value, text)
    return value


def parse_object(text: str) -> JsonObject:
    """Parse one JSON object strictly; raise RowProblem."""
    return as_object(parse_json(text))


def as_object(value: JsonValue) -> JsonObject:
    """Return `value` if it is an object; raise RowProblem."""
    if not isinstance(value, dict):
        raise RowProblem("not-an-object", f"a row is a JSON object, this is {json_kind(value)}")
    return value


def json_kind(value: JsonValue) -> str:
    """Say in words what a JSON value is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"


def json_lines(source: Source, encoding: str) -> Iterator[Record | Broken]:
    """Yield the rows of JSON lines; blank lines are no rows."""
    for line in read_lines(source, encoding):
        if isinstance(line, Broken):
            yield line
        elif line.text and not line.text.isspace():
            try:
                yield Record(line.number, parse_object(line.text))
            except RowProblem as problem:
                yield Broken(line.number, problem.rule, problem.detail)


def json_document(source: Source, encoding: str, is_row: Callable[[JsonObject], bool]) -> Iterator[Record | Broken]:
    """Yield the rows of one JSON value: an array, an object that wraps one array of objects, or a single row.

    Raises DataError where the value is damaged, since nothing after that place can be read.
    """
    text, damage = read_text(source, encoding, MOST_DOCUMENT_BYTES)
    start = _skip_space(text, 0)
    wrapped = text[start : start + 1] == "{"
    if start == len(text):
        return
    try:
        if wrapped:
            path = _path_of_rows(source, _LENIENT.decode(text[start:]), is_row)
            start = _enter(text, start, path) if path else start
        if text[start] == "{":
            yield _item(text, start, _line(text, start))[0]
        else:
            yield from _elements(text, start, more_may_follow=wrapped)
    except json.JSONDecodeError as error:
        if damage is not None:
            raise damage from error
        raise DataError(
            f"{source.name} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            "nothing after that place can be read. Mend it there."
        ) from error
    except DataError:
        raise
    except RecursionError as error:
        raise DataError(
            f"{source.name} is nested too deep to be read; a row may have {MOST_DEPTH} levels. Write the rows as "
            "JSON lines, each flatter or with its inner parts as text."
        ) from error
    except ValueError as error:  # an integer of thousands of digits
        raise DataError(f"{source.name} cannot be read as JSON: {error}.") from error


def _elements(text: str, start: int, more_may_follow: bool) -> Iterator[Record | Broken]:
    """Yield the elements of the array that begins at `start`, each with its own line."""
    line, at = _line(text, start), _skip_space(text, start + 1)
    line += text.count("\n", start, at)
    if text[at : at + 1] != "]":
        while True:
            item, end = _item(text, at, line)
            yield item
            after = _skip_space(text, end)
            if text[after : after + 1] != ",":
                break
            following = _skip_space(text, after + 1)
            line += text.count("\n", at, following)
            at = following
        at = after
        if text[at : at + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
    rest = _skip_space(text, at + 1)
    if rest != len(text) and not more_may_follow:
        raise json.JSONDecodeError("Extra data", text, rest)


def _item(text: str, at: int, line: int) -> tuple[Record | Broken, int]:
    """Decode the value at `at`; one that breaks a rule of ours is stepped over."""
    try:
        value, end = _STRICT.raw_decode(text, at)
        _ensure_sound(value, text[at:end])
        return Record(line, as_object(value)), end
    except RowProblem as problem:
        _, end = _LENIENT.raw_decode(text, at)
        return Broken(line, problem.rule, problem.detail), end


def _path_of_rows(source: Source, value: JsonObject, is_row: Callable[[JsonObject], bool]) -> list[str] | None:
    """Return the keys that lead to the rows, or None if the object is itself a row."""
    if is_row(value):
        return None
    paths = list(_arrays_of_objects(value, []))
    if len(paths) > 1:
        places = ", ".join(".".join(path) for path in paths[:5])
        raise DataError(
            f"{source.name} holds rows in several places ({places}); write those you want to a file of their own."
        )
    lengths = {len(column) for column in value.values() if isinstance(column, list)}
    if (
        not paths
        and len(lengths) == 1
        and lengths != {0}
        and all(isinstance(column, list) for column in value.values())
    ):
        raise DataError(f"{source.name} holds one array a column ({', '.join(value)}); write one object a row instead.")
    return paths[0] if paths else None


def _arrays_of_objects(value: JsonObject, path: list[str]) -> Iterator[list[str]]:
    for key, inner in value.items():
        if isinstance(inner, list) and inner and sum(isinstance(item, dict) for item in inner) * 2 > len(inner):
            yield [*path, key]
        elif isinstance(inner, dict) and len(path) + 1 < _MOST_WRAPPING:
            yield from _arrays_of_objects(inner, [*path, key])


def _enter(text: str, start: int, path: list[str]) -> int:
    """Return where the value under `path` begins in the object that begins at `start`."""
    at = start
    while True:  # text[at] is the brace or a comma
        key, at = _LENIENT.raw_decode(text, _skip_space(text, at + 1))
        at = _skip_space(text, _skip_space(text, at) + 1)
        if key == path[0]:
            return at if len(path) == 1 else _enter(text, at, path[1:])
        at = _skip_space(text, _LENIENT.raw_decode(text, at)[1])


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _ensure_sound(value: JsonValue, text: str) -> None:
    if text.count("{") + text.count("[") > MOST_DEPTH and _deeper_than(value, MOST_DEPTH):
        raise _too_deep()
    if "\\ud" in text or "\\uD" in text:
        ensure_whole_characters(value)


def ensure_whole_characters(value: JsonValue) -> None:
    """Raise RowProblem if a text in `value` holds half of a surrogate pair, which no tokenizer takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise RowProblem(
            "lone-surrogate", f"a text holds half of a character (\\u{half:04x} without its other half)"
        ) from error


def _deeper_than(value: JsonValue, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(inner, (dict, list)) for inner in level)


def _too_deep() -> RowProblem:
    return RowProblem("too-deep", f"the row is nested more than {MOST_DEPTH} levels deep")


def _unique(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RowProblem(
            "duplicate-key", f"the key {twice!r} stands twice in one object, so one of its values would be lost"
        )
    return value


def _no_constant(name: str) -> NoReturn:
    raise RowProblem("nan-value", f"{name} is not JSON; write null or leave the key out")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise RowProblem("nan-value", f"the number {text[:40]} is too large for a float")
    return number


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
_LENIENT = json.JSONDecoder()
