"""Chat messages as files write them to `Message`s, with every doubt refused.

Used by the formats. A conversation that comes out of `conversation` can be asked and answered
turn by turn: it opens with a user (after an optional system prompt), and every assistant turn
answers a user or a tool. Several user turns in a row stay as they are, people write like that.
"""

import json
from collections.abc import Sequence

from luthier.core.errors import nearest
from luthier.core.types import Conversation, JsonObject, JsonValue, Message, Preference, Role
from luthier.data.json_rows import json_kind, parse_json
from luthier.data.problems import RowProblem

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_NOT_TEXT = ("images", "image", "videos", "video", "audios", "audio")


def conversation(messages: Sequence[Message], tools: Sequence[JsonObject] = ()) -> Conversation:
    """Return the conversation; raise RowProblem if its turns cannot follow one another."""
    _ensure_order(messages)
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise RowProblem("no-assistant-turn", "no turn of the assistant to learn from", "messages")
    if all(message.weight == 0 for message in answers):
        raise RowProblem("no-trained-turn", "every turn of the assistant has weight 0", "messages")
    return Conversation(tuple(messages), tuple(tools))


def single_turn(prompt: str, answer: str, system: JsonValue = None) -> Conversation:
    """Return one question and its answer, after a system prompt if there is one."""
    turns = (*system_turn(system), Message("user", prompt), Message("assistant", answer))
    return Conversation(turns)


def preference(
    prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message], tools: Sequence[JsonObject] = ()
) -> Preference:
    """Return the pair; raise RowProblem if either side cannot follow the prompt, or both are the same."""
    for side, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or answer[0].role != "assistant":
            raise RowProblem("roles-out-of-order", f"{side} must begin with a turn of the assistant")
        _ensure_order([*prompt, *answer])
    if list(chosen) == list(rejected):
        raise RowProblem("same-answers", "chosen and rejected are the same, so there is nothing to prefer")
    return Preference(tuple(prompt), tuple(chosen), tuple(rejected), tuple(tools))


def system_turn(system: JsonValue) -> tuple[Message, ...]:
    """Return a system message for a `system` value, none for an absent or empty one."""
    if system is None or system == "":
        return ()
    if not isinstance(system, str):
        raise RowProblem("wrong-type", f"system must be a text, this is {json_kind(system)}")
    return (Message("system", system),)


def answer_text(row: JsonObject, column: str) -> str:
    """Return an answer as text; numbers, lists and objects become their JSON. Raises RowProblem if there is none."""
    if column not in row:
        raise RowProblem("missing-answer", f"there is no {column!r}.{nearest(column, row)}")
    value = row[column]
    if value is None:
        raise RowProblem("null-content", f"{column!r} is null")
    text = value_text(value)
    if not text.strip():
        raise RowProblem("empty-answer", f"{column!r} is empty")
    return text


def prompt_text(row: JsonObject, column: str) -> str:
    """Return a prompt as text; raise RowProblem if there is none."""
    if column not in row:
        raise RowProblem("missing-prompt", f"there is no {column!r}.{nearest(column, row)}")
    text = "" if row[column] is None else value_text(row[column])
    if not text.strip():
        raise RowProblem("empty-prompt", f"{column!r} is empty")
    return text


def value_text(value: JsonValue) -> str:
    """Return a string as it is and every other value as its JSON text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def ensure_text_only(row: JsonObject) -> None:
    """Raise RowProblem if the row carries pictures, sound or film."""
    for column in _NOT_TEXT:
        if row.get(column):
            raise RowProblem("not-text", f"the row carries {column!r}; Luthier tunes on text only")


def messages_from(turns: JsonValue, where: str = "messages") -> list[Message]:
    """Read a list of messages in OpenAI's shape; raise RowProblem naming the turn that is wrong."""
    if isinstance(turns, str) and turns.lstrip().startswith("["):
        turns = parse_json(turns)  # CSV and Parquet keep lists as JSON text
    if not isinstance(turns, list):
        raise RowProblem("wrong-type", f"{where!r} must be a list of messages, this is {json_kind(turns)}", where)
    if not turns:
        raise RowProblem("no-messages", f"{where!r} is empty", where)
    return [message_from(turn, f"{where}[{index}]") for index, turn in enumerate(turns)]


def message_from(turn: JsonValue, where: str) -> Message:
    """Read one message in OpenAI's shape; raise RowProblem."""
    if not isinstance(turn, dict):
        raise RowProblem("wrong-type", f"{where} must be an object, this is {json_kind(turn)}", where)
    ensure_text_only(turn)
    role = _role(turn.get("role"), where)
    calls = tool_calls_from(turn.get("tool_calls"), turn.get("function_call"), where)
    return Message(
        role=role,
        content=_content(turn.get("content"), role, bool(calls), where),
        weight=_weight(turn.get("weight"), where),
        reasoning=_optional_text(turn, ("reasoning_content", "reasoning", "thinking"), where),
        tool_calls=calls,
        tool_call_id=_optional_text(turn, ("tool_call_id",), where),
        name=_optional_text(turn, ("name",), where),
    )


def tool_calls_from(calls: JsonValue, legacy: JsonValue, where: str) -> tuple[JsonObject, ...]:
    """Read `tool_calls`, or the older `function_call`, into OpenAI's shape; arguments stay as they are written."""
    if calls is None or calls == []:
        calls = [] if legacy is None else [{"type": "function", "function": legacy}]
    if not isinstance(calls, list):
        raise RowProblem(
            "bad-tool-call", f"{where}: tool_calls must be a list, this is {json_kind(calls)}", f"{where}.tool_calls"
        )
    return tuple(_tool_call(call, where) for call in calls)


def tools_from(row: JsonObject) -> tuple[JsonObject, ...]:
    """Read the row's `tools`, or the older `functions`, as objects or as JSON text."""
    tools = row.get("tools") or row.get("functions")
    if not tools:
        return ()
    if isinstance(tools, str):
        tools = parse_json(tools) if tools.strip() else []
    objects = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    if not isinstance(tools, list) or len(objects) != len(tools):
        raise RowProblem("bad-tools", f"tools must be a list of objects, this is {json_kind(tools)}", "tools")
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in objects)


def _ensure_order(messages: Sequence[Message]) -> None:
    before: Message | None = None
    for index, message in enumerate(messages):
        role = message.role
        if role == "system" and index > 0:
            raise RowProblem(
                "roles-out-of-order",
                f"turn {index + 1} is of the system; it must come first",
                f"messages[{index}].role",
            )
        if role == "assistant" and (before is None or before.role == "system"):
            raise RowProblem(
                "roles-out-of-order",
                f"turn {index + 1} is of the assistant, before any turn of the user",
                f"messages[{index}].role",
            )
        if role == "assistant" and before is not None and before.role == "assistant":
            raise RowProblem(
                "roles-out-of-order",
                f"turns {index} and {index + 1} are both of the assistant; nothing was asked between them",
                f"messages[{index}].role",
            )
        if role == "tool" and not _follows_call(before):
            raise RowProblem(
                "roles-out-of-order",
                f"turn {index + 1} is a tool's, but no tool was called before it",
                f"messages[{index}].role",
            )
        before = message


def _follows_call(before: Message | None) -> bool:
    return before is not None and (before.role == "tool" or bool(before.tool_calls))


def _role(role: JsonValue, where: str) -> Role:
    if role is None:
        raise RowProblem("missing-role", f"{where} has no role", f"{where}.role")
    known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise RowProblem(
            "unknown-role", f"{where} has the role {role!r}; roles are {', '.join(_ROLES)}", f"{where}.role"
        )
    return known


def _content(content: JsonValue, role: Role, has_calls: bool, where: str) -> str:
    if isinstance(content, list):
        content = "".join(_part_text(part, where) for part in content)
    if content is None:
        if has_calls:
            return ""
        raise RowProblem("null-content", f"{where} has no content", f"{where}.content")
    text = value_text(content) if role == "tool" else content
    if not isinstance(text, str):
        raise RowProblem(
            "wrong-type", f"the content of {where} must be a text, this is {json_kind(content)}", f"{where}.content"
        )
    if role == "assistant" and not has_calls and not text.strip():
        raise RowProblem("empty-answer", f"{where} is an empty turn of the assistant", f"{where}.content")
    if role == "user" and not text.strip():
        raise RowProblem("empty-prompt", f"{where} is an empty turn of the user", f"{where}.content")
    return text


def _part_text(part: JsonValue, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) and kind in ("text", "input_text", "output_text") else None
    if not isinstance(text, str):
        raise RowProblem(
            "not-text", f"{where} holds a part of type {kind!r}; Luthier tunes on text only", f"{where}.content"
        )
    return text


def _weight(weight: JsonValue, where: str) -> int:
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        raise RowProblem("bad-weight", f"the weight of {where} must be 0 or 1, this is {weight!r}", f"{where}.weight")
    return 1 if weight == 1 else 0


def _optional_text(turn: JsonObject, keys: Sequence[str], where: str) -> str | None:
    for key in keys:
        value = turn.get(key)
        if isinstance(value, str) and value:
            return value
        if value is not None and not isinstance(value, str):
            raise RowProblem(
                "wrong-type", f"{key} of {where} must be a text, this is {json_kind(value)}", f"{where}.{key}"
            )
    return None


def _tool_call(call: JsonValue, where: str) -> JsonObject:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowProblem("bad-tool-call", f"{where} calls a tool without a name", f"{where}.tool_calls")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            parse_json(arguments)
        except RowProblem as problem:
            raise RowProblem(
                "bad-tool-call",
                f"the arguments of {function['name']} in {where} are not JSON: {problem.detail}",
                f"{where}.tool_calls",
            ) from problem
    elif not isinstance(arguments, dict):
        raise RowProblem(
            "bad-tool-call",
            f"{where} calls {function['name']} without arguments (an object, or its JSON text)",
            f"{where}.tool_calls",
        )
    shaped: JsonObject = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if isinstance(call, dict) and isinstance(call.get("id"), str):
        return {"id": call["id"], **shaped}
    return shaped
