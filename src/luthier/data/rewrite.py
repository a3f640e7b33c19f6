"""Put mended content back into the keys that the row was written with.

How a row became content is the reader's knowledge, and it only goes one way. So a few ways back are
tried, and the first one counts that the reader turns into the mended content again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luthier.core.types import Content, Conversation, JsonObject, JsonValue, Message, Preference, Text
from luthier.data.checking import Repairing

Reread = Callable[[Sequence[JsonObject]], Sequence[Content | None]]


@dataclass(frozen=True, slots=True)
class Change:
    """A record, what it was read as, what it shall be read as, and the repairs that made the difference."""

    record: JsonObject
    before: Content
    after: Content
    repaired_by: tuple[Repairing, ...] = ()


def rewritten(changes: Sequence[Change], reread: Reread) -> list[JsonObject | None]:
    """Return each record so that `reread` gives what it shall be read as; None where no way back was found.

    Keys and values that the change does not concern stay as they are; a row for which that cannot be done is
    written as messages.
    """
    written: list[JsonObject | None] = [None] * len(changes)
    for way in (_by_leaves, _by_columns, _by_repairs, _as_messages):
        open_places = [place for place, record in enumerate(written) if record is None]
        candidates = [(place, record) for place in open_places if (record := way(changes[place])) is not None]
        read_back = reread([record for _, record in candidates]) if candidates else ()
        for (place, record), content in zip(candidates, read_back, strict=True):
            if content == changes[place].after:
                written[place] = record
    return written


def messages_record(content: Content) -> JsonObject:
    """Return content in the shape that OpenAI's fine-tuning takes; a document under `text`."""
    match content:
        case Text(text):
            return {"text": text}
        case Conversation(messages, tools):
            return {"messages": _dicts(messages), **_tools(tools)}
        case Preference(prompt, chosen, rejected, tools):
            return {
                "input": {"messages": _dicts(prompt), **_tools(tools)},
                "preferred_output": _dicts(chosen),
                "non_preferred_output": _dicts(rejected),
            }


def _by_leaves(change: Change) -> JsonObject:
    """Replace each text of the record that stands in a changed turn by what stands there now."""
    turns = [(old, new) for old, new in zip(_texts(change.before), _texts(change.after)) if old != new]

    def mended(leaf: str) -> str:
        return next((now for old, new in turns if (now := _in_its_place(leaf, old, new)) is not None), leaf)

    return _object(change.record, mended)


def _by_columns(change: Change) -> JsonObject | None:
    """Replace columns that were read together as one JSON object, where the new answer has the same keys."""
    record = dict(change.record)
    for old, new in zip(_texts(change.before), _texts(change.after)):
        if old == new:
            continue
        values = _json_object(old), _json_object(new)
        if values[0] is None or values[1] is None or list(values[0]) != list(values[1]):
            return None
        record |= {key: value for key, value in values[1].items() if key in record}
    return record


def _by_repairs(change: Change) -> JsonObject | None:
    """Let the repairs see each text of the record by itself."""

    def mended(leaf: str) -> str:
        for check in change.repaired_by:
            content = check.repair(Text(leaf))
            leaf = content.text if isinstance(content, Text) else leaf
        return leaf

    return _object(change.record, mended) if change.repaired_by else None


def _as_messages(change: Change) -> JsonObject:
    return messages_record(change.after)


def _in_its_place(leaf: str, old: str, new: str) -> str | None:
    """Return what `leaf`, a part of `old`, is in `new`, if nothing around it has changed."""
    start = old.find(leaf) if leaf else -1
    if start < 0:
        return None
    head, tail = old[:start], old[start + len(leaf) :]
    if not (new.startswith(head) and new.endswith(tail)) or len(new) < len(head) + len(tail):
        return None
    return new[len(head) : len(new) - len(tail)]


def _texts(content: Content) -> list[str]:
    match content:
        case Text(text):
            return [text]
        case Conversation(messages):
            return [message.content for message in messages]
        case Preference(prompt, chosen, rejected):
            return [message.content for message in (*prompt, *chosen, *rejected)]


def _object(record: JsonObject, mended: Callable[[str], str]) -> JsonObject:
    return {key: _value(value, mended) for key, value in record.items()}


def _value(value: JsonValue, mended: Callable[[str], str]) -> JsonValue:
    match value:
        case str():
            return mended(value)
        case list():
            return [_value(inner, mended) for inner in value]
        case dict():
            return _object(value, mended)
        case _:
            return value


def _json_object(text: str) -> JsonObject | None:
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _dicts(messages: Sequence[Message]) -> list[JsonValue]:
    return [message.as_dict() for message in messages]


def _tools(tools: Sequence[JsonObject]) -> JsonObject:
    return {"tools": list(tools)} if tools else {}
