"""What is asked of every arm: the last assistant turn of each sealed row, given the true history."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.types import Conversation, JsonObject, Message, Row


@dataclass(frozen=True, slots=True)
class Question:
    """One sealed row as it is asked: `messages` end before the wanted answer."""

    row: Row
    messages: tuple[Message, ...]
    tools: tuple[JsonObject, ...]
    wanted: str

    @property
    def text(self) -> str:
        """The last user turn, which is all that a model without a prompt sees."""
        return next((message.content for message in reversed(self.messages) if message.role == "user"), "")


def questions(rows: Sequence[Row]) -> list[Question]:
    """Take the question out of every conversation; rows of other kinds and without an answer have none."""
    asked = []
    for row in rows:
        if not isinstance(row.content, Conversation):
            continue
        messages = row.content.messages
        last = max((place for place, message in enumerate(messages) if message.role == "assistant"), default=0)
        if last:
            asked.append(Question(row, messages[:last], row.content.tools, messages[last].content))
    return asked
