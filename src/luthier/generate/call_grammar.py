"""The grammar of answers that call tools as the model's chat template writes calls, their arguments held to the tools' schemas.

Marks that are tokens of the tokenizer's own (`<tool_call>`) are these tokens and no other spelling of them, as in training.
Text in front of a call, where an answer may have any, is free of the opening mark; so what is not held to is no call.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from luthier.core.types import JsonObject
from luthier.data.call_format import CallFormat

MOST_CALLS = 16  # an end to calls that a weak model would write for ever
_JSON_BEGINS = '{["-0123456789tfn'


@dataclass(frozen=True, slots=True)
class CallableTool:
    """A function's name, and the schema of its arguments."""

    name: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class Marks:
    """The tokenizer's own tokens by their text, and the ids of those that end an answer."""

    ids: Mapping[str, int]
    stops: frozenset[int]

    def literal(self, text: str) -> str:
        """Return a text as the grammar has it; nothing for none."""
        if not self.ids:
            return _quoted(text)
        longest_first = sorted(self.ids, key=lambda token: (-len(token), token))
        pieces = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
        return " ".join(f"<[{self.ids[piece]}]>" if piece in self.ids else _quoted(piece) for piece in pieces if piece)


def rules(
    format: CallFormat,
    tools: Sequence[CallableTool],
    marks: Marks,
    schema: Callable[[JsonObject], str],
    *,
    several: bool,
) -> str:
    """Return the rule `calls`, an answer that calls from its beginning on, and `block`, the same behind other text."""
    more = ""
    if several and format.between is not None:
        more = f" ({marks.literal(format.between)} call){{0,{MOST_CALLS - 1}}}"
    closing = marks.literal(format.closing)
    lines = [
        f"calls: {marks.literal(format.lead + format.opening)} call{more} {closing}",
        f"block: {marks.literal(_trigger(format, marks)[1])} call{more} {closing}",
        "call: " + " | ".join(f"call_{place}" for place in range(len(tools))),
    ]
    for place, tool in enumerate(tools):
        values = [_quoted(json.dumps(tool.name)), f"%json {schema(tool.parameters)}"]
        first, second = reversed(values) if format.arguments_first else values
        lines.append(f"call_{place}: {_quoted(format.head)} {first} {_quoted(format.middle)} {second} {_end(format)}")
    if format.id_head:
        lines.append("CALL_ID: /[A-Za-z0-9_-]{1,64}/")
    return "\n".join(lines)


def free_start(format: CallFormat, marks: Marks) -> str:
    """Return the rule `start` of answers that are text, a call, or text and then a call."""
    trigger, _ = _trigger(format, marks)
    others = ",".join(str(id) for text, id in marks.ids.items() if text != trigger and id not in marks.stops)
    if not trigger:
        more = f"(<[{others}]> TEXT)" if others else '""'
        return f'start: calls | (TALK | {more}) {more}* | ""\nTALK: /[ \n\r\t]*[^{{ \n\r\t](.|\n)*/\nTEXT: /(.|\n)*/'
    talk = f"(TEXT <[{others}]>)*" if others else ""
    if trigger not in marks.ids:
        return f"start: {talk} (TEXT | mark block)\nmark[lazy]: TEXT {_quoted(trigger)}\nTEXT: /(.|\n)*/"
    spelled = re.escape(trigger).replace("/", "\\/")
    text = f"TEXT: /(.|\n)*/ & ~/(.|\n)*{spelled}(.|\n)*/"
    return f"start: {talk} TEXT (<[{marks.ids[trigger]}]> block)?\n{text}"


def begins_as_json(format: CallFormat, marks: Marks) -> bool:
    """Tell whether the first character of a call could be one of a JSON document, so that it does not tell them apart."""
    trigger, _ = _trigger(format, marks)
    return trigger not in marks.ids and (not trigger or trigger[0] in _JSON_BEGINS)


def _trigger(format: CallFormat, marks: Marks) -> tuple[str, str]:
    """Return the mark by which a call is known to begin, and what of the opening stands behind it."""
    opening = format.opening.lstrip()
    own = [token for token in marks.ids if opening.startswith(token)]
    mark = max(own, key=len) if own else opening.rstrip()
    return mark, opening[len(mark) :]


def _end(format: CallFormat) -> str:
    """Return what closes a call's object, with its id where the template writes one."""
    if not format.id_head:
        return _quoted(format.tail)
    return f"({_quoted(format.tail)} | {_quoted(format.id_head)} CALL_ID {_quoted(format.id_tail)})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""
