"""Rows of `input` and `output`; the input may be a list of turns, the user's and the assistant's by turns."""

from luthier.core.types import Content, JsonObject, Message
from luthier.data.messages import answer_text, conversation, ensure_text_only, prompt_text, single_turn, system_turn
from luthier.data.problems import RowProblem


def matches(row: JsonObject) -> bool:
    """Tell whether the row has an input and an output, and no instruction."""
    return "input" in row and "output" in row and "instruction" not in row


def read(row: JsonObject) -> Content:
    """Read the row as a conversation; raise RowProblem."""
    ensure_text_only(row)
    turns = row.get("input")
    if not isinstance(turns, list):
        return single_turn(prompt_text(row, "input"), answer_text(row, "output"), row.get("system"))
    if len(turns) % 2 == 0 or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise RowProblem("roles-out-of-order", "'input' as a list must hold texts that begin and end with the user's")
    spoken = [Message("assistant" if index % 2 else "user", str(turn)) for index, turn in enumerate(turns)]
    return conversation([*system_turn(row.get("system")), *spoken, Message("assistant", answer_text(row, "output"))])
