"""Rows of `prompt` and `completion`: two texts, or two lists of messages."""

from luthier.core.types import Content, JsonObject, Message
from luthier.data.messages import (
    answer_text,
    conversation,
    ensure_text_only,
    messages_from,
    prompt_text,
    single_turn,
    system_turn,
    tools_from,
)


def matches(row: JsonObject) -> bool:
    """Tell whether the row has a prompt and a completion."""
    return "prompt" in row and "completion" in row


def read(row: JsonObject) -> Content:
    """Read the pair as a conversation; raise RowProblem."""
    ensure_text_only(row)
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, list):
        return single_turn(prompt_text(row, "prompt"), answer_text(row, "completion"), row.get("system"))
    turns = [*system_turn(row.get("system")), *messages_from(prompt, "prompt")]
    if isinstance(completion, list) and completion and isinstance(completion[0], dict) and "role" in completion[0]:
        turns += messages_from(completion, "completion")
    else:
        turns.append(Message("assistant", answer_text(row, "completion")))
    return conversation(turns, tools_from(row))
