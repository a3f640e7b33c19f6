"""The base model, untuned, asked as the rows stand."""

from luthier.core.types import Message
from luthier.verdict.questions import Question


class Arm:
    """Asks the base model the row's own messages."""

    weights = "base"
    description = "the base model, untuned, asked as the rows stand"

    def prompt(self, question: Question) -> tuple[Message, ...]:
        """Return the messages that the model is given."""
        return question.messages
