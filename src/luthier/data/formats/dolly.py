"""Dolly's rows: `instruction`, `context` and `response`."""

from luthier.core.types import Content, JsonObject
from luthier.data.messages import answer_text, prompt_text, single_turn, value_text


def matches(row: JsonObject) -> bool:
    """Tell whether the row has an instruction and a response, and no output."""
    return "instruction" in row and "response" in row and "output" not in row


def read(row: JsonObject) -> Content:
    """Read the row as a conversation: the instruction, a blank line, and the context if there is one."""
    question = prompt_text(row, "instruction")
    context = row.get("context")
    if context is not None and value_text(context).strip():
        question = f"{question}\n\n{value_text(context)}"
    return single_turn(question, answer_text(row, "response"), row.get("system"))
