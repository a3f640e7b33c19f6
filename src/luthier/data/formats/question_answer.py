"""Rows of `question` and `answer`."""

from luthier.core.types import Content, JsonObject
from luthier.data.messages import answer_text, ensure_text_only, prompt_text, single_turn

_MORE_INPUT = ("context", "passage", "document", "article", "choices", "options")


def matches(row: JsonObject) -> bool:
    """Tell whether the row has a question and an answer, and nothing else that the question needs."""
    return "question" in row and "answer" in row and not any(key in row for key in _MORE_INPUT)


def read(row: JsonObject) -> Content:
    """Read the pair as a conversation; raise RowProblem."""
    ensure_text_only(row)
    return single_turn(prompt_text(row, "question"), answer_text(row, "answer"), row.get("system"))
