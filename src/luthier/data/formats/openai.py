"""OpenAI's fine-tuning rows: `messages` with roles, optional `tools`, weights, reasoning and tool calls.

The list may also be called `conversations` or `conversation`, as long as its turns have roles. A row
whose `label` is false holds an answer that was disliked, and is refused rather than learned.
"""

from luthier.core.types import Content, JsonObject
from luthier.data.messages import conversation, ensure_text_only, messages_from, tools_from
from luthier.data.problems import RowProblem

_LISTS = ("messages", "conversations", "conversation")


def matches(row: JsonObject) -> bool:
    """Tell whether the row is a list of messages with roles."""
    if "chosen" in row or "rejected" in row:
        return False
    turns = row.get(_list_name(row))
    if isinstance(turns, str):
        return turns.lstrip().startswith("[") and '"role"' in turns
    if not isinstance(turns, list):
        return False
    return (not turns and "messages" in row) or any(isinstance(turn, dict) and "role" in turn for turn in turns)


def read(row: JsonObject) -> Content:
    """Read the conversation; raise RowProblem."""
    ensure_text_only(row)
    if row.get("label") is False:
        raise RowProblem("disliked-answer", "label is false: the answer was disliked and is not to be learned")
    name = _list_name(row)
    if name not in row:
        raise RowProblem("no-messages", "there is no 'messages'", "messages")
    return conversation(messages_from(row[name], name), tools_from(row))


def _list_name(row: JsonObject) -> str:
    return next((name for name in _LISTS if name in row), "messages")
