"""How a chat template writes tool calls, found out from what it renders for calls that are known.

No table of models: a conversation with one call, and one with two, say what stands before the first JSON object, between two of
them and behind the last, and which of its keys hold the name and the arguments. A template whose calls are no JSON objects
with both (XML, a name before the JSON) has no format here.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from luthier.core.types import JsonObject

PROBE_ID = "probe00id"  # nine letters and digits, which is all that some templates take
_NAMES = ("probe_tool", "probe_other")
_KEY = "probe_key"
_DECODER = json.JSONDecoder()
PROBE_TOOLS: tuple[JsonObject, ...] = tuple(
    {
        "type": "function",
        "function": {"name": name, "description": "Probe.", "parameters": {"type": "object", "properties": {}}},
    }
    for name in _NAMES
)


@dataclass(frozen=True, slots=True)
class CallFormat:
    """The text around the calls of an answer, as the template writes it.

    `lead` is what it writes in front of any answer, `opening` what stands between that and the first object, `between` what
    stands between two objects (None where the template takes one call only), `closing` what stands behind the last. An
    object is `head`, a value, `middle`, a value, `tail`; the name is the first value unless `arguments_first`. Where the
    template writes a call's id behind both, `id_head`, the id, `id_tail` may stand in the place of `tail`.
    """

    lead: str
    opening: str
    between: str | None
    closing: str
    head: str
    middle: str
    tail: str
    name_key: str
    arguments_key: str
    arguments_first: bool = False
    id_head: str = ""
    id_tail: str = ""

    @property
    def separator(self) -> str | None:
        """What stands between two calls of one block; None where each call has an opening and a closing of its own."""
        if self.between is None or dense(self.between) == dense(self.closing + self.opening):
            return None if self.opening.strip() else ""
        return self.between


@dataclass(frozen=True, slots=True)
class _Found:
    """One call in a text: where its object stands, and the object."""

    start: int
    end: int
    value: JsonObject


def probe_calls(number: int) -> list[JsonObject]:
    """Return one call or two that a template is to render; arguments as an object."""
    return [
        {"id": PROBE_ID, "type": "function", "function": {"name": name, "arguments": {_KEY: name}}}
        for name in _NAMES[:number]
    ]


def call_format(lead: str, one: str, two: str | None) -> CallFormat | None:
    """Return the format of answers that hold the first of `probe_calls`, and both (None where that is refused)."""
    first = _found(one, _NAMES[0], 0)
    if first is None:
        return None
    lead = lead if one.startswith(lead) and len(lead) <= first.start else ""
    opening, closing = one[len(lead) : first.start], one[first.end :]
    parts = _parts(one[first.start : first.end], first.value)
    if parts is None or PROBE_ID in opening + closing:
        return None
    return CallFormat(lead, opening, None if two is None else _between(two, closing), closing, *parts)


def _between(two: str, closing: str) -> str | None:
    first = _found(two, _NAMES[0], 0)
    second = None if first is None else _found(two, _NAMES[1], first.end)
    if first is None or second is None or two[second.end :] != closing or PROBE_ID in two[first.end : second.start]:
        return None
    return two[first.end : second.start]


def _found(text: str, name: str, start: int) -> _Found | None:
    """Return the first JSON object that holds the probe's name and arguments as values of its own."""
    for at, end, value in _objects(text, start):
        if name in value.values() and {_KEY: name} in value.values():
            return _Found(at, end, value)
    return None


def _parts(text: str, value: JsonObject) -> tuple[str, str, str, str, str, bool, str, str] | None:
    """Return head, middle, tail, both keys, whether the arguments come first, and what stands around an id behind them."""
    name_key = next(key for key, found in value.items() if found in _NAMES)
    arguments_key = next(key for key, found in value.items() if isinstance(found, dict) and _KEY in found)
    name = text.index(json.dumps(value[name_key]), text.index(json.dumps(name_key)))
    named = (name, name + len(json.dumps(value[name_key])))
    given = next((at, end) for at, end, found in _objects(text, 1) if found == value[arguments_key])
    first, second = sorted((named, given))
    head, middle, tail = text[: first[0]], text[first[1] : second[0]], text[second[1] :]
    if PROBE_ID in head + middle:
        return None
    id_head, written, id_tail = tail.partition(PROBE_ID)
    if written:  # the id of a call is for us to give, and the model need not write one
        return head, middle, "}", name_key, arguments_key, given < named, id_head, id_tail
    return head, middle, tail, name_key, arguments_key, given < named, "", ""


def _objects(text: str, start: int) -> Iterator[tuple[int, int, JsonObject]]:
    for match in re.finditer(r"\{", text[start:]):
        at = start + match.start()
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError:
            continue
        yield at, end, value


def dense(text: str) -> str:
    """Return a text without its blanks, which models are freer with than templates."""
    return "".join(text.split())
