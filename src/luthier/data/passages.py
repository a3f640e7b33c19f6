"""The texts of a row one by one, whatever kind of row it is, and a row with its texts rewritten.

Tool definitions, names and ids are no passages: they are the program's words, not the data's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from luthier.core.types import Content, Conversation, JsonObject, JsonValue, Message, Preference, Text

Change = Callable[["Passage"], str]


class Passage(NamedTuple):
    """One text of a row; `is_answer` marks what an assistant says, its reasoning and tool calls left out."""

    text: str
    is_answer: bool


def passages(content: Content) -> Iterator[Passage]:
    """Yield every text of the content in order, empty ones left out."""
    if isinstance(content, Text):
        yield Passage(content.text, is_answer=False)
        return
    for message in turns(content):
        if message.content:
            yield Passage(message.content, message.role == "assistant")
        if message.reasoning:
            yield Passage(message.reasoning, is_answer=False)
        for call in message.tool_calls:
            for text in _strings(_arguments(call)):
                yield Passage(text, is_answer=False)


def turns(content: Conversation | Preference) -> Sequence[Message]:
    """Return the messages in order; those of a pair are its prompt, the chosen and the rejected continuation."""
    if isinstance(content, Conversation):
        return content.messages
    return (*content.prompt, *content.chosen, *content.rejected)


def rewritten(content: Content, change: Change) -> Content:
    """Return the content with every passage changed; the very same object if none differs."""
    match content:
        case Text(text):
            changed = change(Passage(text, is_answer=False))
            return content if changed == text else Text(changed)
        case Conversation(messages=messages):
            changed = _rewritten(messages, change)
            return content if changed == messages else replace(content, messages=changed)
        case Preference(prompt, chosen, rejected):
            sides = [_rewritten(side, change) for side in (prompt, chosen, rejected)]
            if sides == [prompt, chosen, rejected]:
                return content
            return replace(content, prompt=sides[0], chosen=sides[1], rejected=sides[2])


def _rewritten(messages: tuple[Message, ...], change: Change) -> tuple[Message, ...]:
    def inner(text: str) -> str:
        return change(Passage(text, is_answer=False)) if text else text

    return tuple(
        replace(
            message,
            content=change(Passage(message.content, message.role == "assistant")) if message.content else "",
            reasoning=inner(message.reasoning) if message.reasoning else message.reasoning,
            tool_calls=tuple(_call_rewritten(call, inner) for call in message.tool_calls),
        )
        for message in messages
    )


def _arguments(call: JsonObject) -> JsonValue:
    function = call.get("function")
    return function.get("arguments") if isinstance(function, dict) else None


def _call_rewritten(call: JsonObject, change: Callable[[str], str]) -> JsonObject:
    function = call.get("function")
    if not isinstance(function, dict) or "arguments" not in function:
        return call
    return {**call, "function": {**function, "arguments": _value_rewritten(function["arguments"], change)}}


def _value_rewritten(value: JsonValue, change: Callable[[str], str]) -> JsonValue:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_value_rewritten(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _value_rewritten(item, change) for key, item in value.items()}
    return value


def _strings(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
