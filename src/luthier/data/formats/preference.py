"""Preference pairs: `chosen` and `rejected` after a `prompt`.

Each may be a text, one message or a list of messages, in OpenAI's or ShareGPT's shape. The
prompt may also be called `conversations`, `messages`, `question`, or `instruction` and `input`. Without
a prompt, chosen and rejected are whole conversations, and the prompt is what they begin with alike.
"""

from luthier.core.errors import nearest
from luthier.core.types import Content, JsonObject, JsonValue, Message
from luthier.data.formats import sharegpt
from luthier.data.messages import (
    answer_text,
    ensure_text_only,
    messages_from,
    preference,
    system_turn,
    tools_from,
    value_text,
)
from luthier.data.problems import RowProblem

_PROMPTS = ("prompt", "conversations", "messages", "question", "instruction")


def matches(row: JsonObject) -> bool:
    """Tell whether the row has a chosen and a rejected answer."""
    return "chosen" in row and "rejected" in row


def read(row: JsonObject) -> Content:
    """Read the pair; raise RowProblem."""
    ensure_text_only(row)
    chosen, rejected = _turns(row, "chosen"), _turns(row, "rejected")
    prompt = _prompt(row)
    if prompt is None:
        shared = _num_shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    else:
        chosen, rejected = _after(prompt, chosen), _after(prompt, rejected)
    if not prompt:
        raise RowProblem(
            "missing-prompt",
            f"there is no 'prompt', and chosen and rejected do not begin alike.{nearest('prompt', row)}",
        )
    has_system = prompt[0].role == "system"
    return preference(
        [*(() if has_system else system_turn(row.get("system"))), *prompt], chosen, rejected, tools_from(row)
    )


def _prompt(row: JsonObject) -> list[Message] | None:
    name = next((name for name in _PROMPTS if row.get(name) is not None), None)
    if name is None:
        return None
    if not isinstance(row[name], str):
        return _messages(row[name], name)
    parts = [str(row[name]), value_text(row.get("input") or "")] if name == "instruction" else [str(row[name])]
    text = "\n\n".join(part for part in parts if part.strip())
    if not text:
        raise RowProblem("empty-prompt", f"{name!r} is empty")
    return [Message("user", text)]


def _turns(row: JsonObject, side: str) -> list[Message]:
    value = row.get(side)
    if isinstance(value, (list, dict)):
        return _messages(value, side)
    return [Message("assistant", answer_text(row, side))]


def _messages(value: JsonValue, where: str) -> list[Message]:
    turns: list[JsonValue] = value if isinstance(value, list) else [value]
    if turns and isinstance(turns[0], dict) and "from" in turns[0]:
        return sharegpt.turns_from(turns)
    return messages_from(turns, where)


def _num_shared(first: list[Message], second: list[Message]) -> int:
    """Count the messages that both begin with; the last of either is always an answer."""
    most = min(len(first), len(second)) - 1
    return next((index for index in range(most) if first[index] != second[index]), max(most, 0))


def _after(prompt: list[Message], answer: list[Message]) -> list[Message]:
    return answer[len(prompt) :] if answer[: len(prompt)] == prompt else answer
