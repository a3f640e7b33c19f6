"""Tool calls as models write them, read into names and arguments."""

import re
from typing import NamedTuple

from luthier.core.types import JsonObject, JsonValue
from luthier.graders.json_fields import InvalidJson, parsed
from luthier.graders.measures.canonical import written

# Hermes and Qwen write <tool_call>{...}</tool_call>, the starter <|tool_call|>{...}<|/tool_call|>, Mistral [TOOL_CALLS][{...}].
_MARKED = re.compile(r"<(\|?)tool_call\1>(.*?)(?:<(?:/|\|/)tool_call\1>|\Z)", re.DOTALL)
_LIST_MARK = "[TOOL_CALLS]"
_LISTS = ("tool_calls", "function_call")
_ARGUMENTS = ("arguments", "parameters", "args", "input")


class NotCalls(ValueError):
    """A text sets out to call a tool and cannot be read."""


class Call(NamedTuple):
    """A tool's name, and its arguments as pairs of key and JSON, sorted."""

    name: str
    arguments: tuple[tuple[str, str], ...]


def calls_in(text: str) -> list[Call]:
    """Return the tool calls in a text, none where it is prose; raise NotCalls where a call is begun and broken."""
    if marked := _MARKED.findall(text):
        return [call for _, found in marked for call in _calls(_json(found))]
    _, mark, behind = text.partition(_LIST_MARK)
    if mark:
        return _calls(_json(behind))
    stripped = text.strip()
    if not stripped.startswith(("{", "[")):
        return []
    try:
        return _calls(parsed(stripped))
    except InvalidJson:
        lines = [line for line in stripped.splitlines() if line.strip()]
        return [call for line in lines for call in _calls(_json(line))]


def _json(text: str) -> JsonValue:
    try:
        return parsed(text.strip())
    except InvalidJson as error:
        raise NotCalls(str(error)) from error


def _calls(value: JsonValue) -> list[Call]:
    """Read one JSON value: a call, a list of calls, or a message that holds them."""
    if isinstance(value, list):
        return [call for inner in value for call in _calls(inner)]
    if not isinstance(value, dict):
        raise NotCalls("a call is a JSON object")
    for key in _LISTS:
        if value.get(key):
            return _calls(value[key])
    return [_call(value)]


def _call(value: JsonObject) -> Call:
    function = value.get("function")
    if isinstance(function, dict):
        value = function
    name = value.get("name", function)
    if not isinstance(name, str) or not name:
        raise NotCalls("a call has a name")
    arguments: JsonValue = next((value[key] for key in _ARGUMENTS if key in value), None)
    if isinstance(arguments, str):
        arguments = _json(arguments or "{}")
    if not isinstance(arguments, dict | None):
        raise NotCalls("arguments are a JSON object")
    pairs = [(key, written(argument, any_order=False)) for key, argument in (arguments or {}).items()]
    return Call(name, tuple(sorted(pairs)))
