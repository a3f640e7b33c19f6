"""ShareGPT rows: `conversations` of `from` and `value`, with function calls, observations and `tools` as JSON text."""

from luthier.core.errors import nearest
from luthier.core.types import Content, JsonObject, JsonValue, Message, Role
from luthier.data.json_rows import json_kind, parse_json
from luthier.data.messages import conversation, ensure_text_only, system_turn, tool_calls_from, tools_from, value_text
from luthier.data.problems import RowProblem

_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "tool_response": "tool",
    "function_response": "tool",
}
_CALLS = ("function_call", "tool_call")


def matches(row: JsonObject) -> bool:
    """Tell whether the row is a list of turns with `from` and `value`."""
    turns = row.get("conversations", row.get("conversation"))
    if "chosen" in row or "rejected" in row or not isinstance(turns, list):
        return False
    return not turns or any(isinstance(turn, dict) and "from" in turn for turn in turns)


def read(row: JsonObject) -> Content:
    """Read the conversation; raise RowProblem."""
    ensure_text_only(row)
    turns = turns_from(row.get("conversations", row.get("conversation")))
    return conversation([*system_turn(row.get("system")), *turns], tools_from(row))


def turns_from(turns: JsonValue) -> list[Message]:
    """Read the turns; a text and the calls that follow it, or several calls in a row, are one turn."""
    if not isinstance(turns, list):
        raise RowProblem("wrong-type", f"'conversations' must be a list of turns, this is {json_kind(turns)}")
    if not turns:
        raise RowProblem("no-messages", "'conversations' is empty")
    messages: list[Message] = []
    for index, turn in enumerate(turns):
        message = turn_from(turn, f"conversations[{index}]")
        if message.tool_calls and messages and messages[-1].role == "assistant":
            before = messages.pop()
            message = Message("assistant", before.content, tool_calls=before.tool_calls + message.tool_calls)
        messages.append(message)
    return messages


def turn_from(turn: JsonValue, where: str) -> Message:
    """Read one turn; raise RowProblem."""
    if not isinstance(turn, dict):
        raise RowProblem("wrong-type", f"{where} must be an object, this is {json_kind(turn)}")
    if "from" not in turn:
        raise RowProblem("missing-role", f"{where} has no 'from'")
    speaker = str(turn["from"]).strip().lower()
    if speaker not in _ROLES:
        raise RowProblem("unknown-role", f"{where} is from {turn['from']!r}.{nearest(speaker, _ROLES)}")
    value = turn.get("value")
    if value is None:
        raise RowProblem("null-content", f"{where} has no value")
    role = _ROLES[speaker]
    text = value_text(value)
    if speaker in _CALLS:
        return Message(role, "", tool_calls=_calls(text, where))
    if role in ("user", "assistant") and not text.strip():
        raise RowProblem(
            "empty-answer" if role == "assistant" else "empty-prompt", f"{where} is an empty turn of the {role}"
        )
    return Message(role, text)


def _calls(text: str, where: str) -> tuple[JsonObject, ...]:
    try:
        calls = parse_json(text)
    except RowProblem as problem:
        raise RowProblem("bad-tool-call", f"the call in {where} is not JSON: {problem.detail}") from problem
    return tool_calls_from(calls if isinstance(calls, list) else [calls], None, where)
