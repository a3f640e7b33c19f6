"""The tuned model, asked as the rows stand."""

from luthier.core.types import Message
from luthier.verdict.questions import Question


class Arm:
    """Asks the tuned model the row's own messages."""

    weights = "tuned"
    description = "the tuned model, asked as the rows stand"

    def prompt(self, question: Question) -> tuple[Message, ...]:
        """Return the messages that the model is given."""
        return question.messages
