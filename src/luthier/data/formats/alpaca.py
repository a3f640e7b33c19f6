"""Alpaca rows: `instruction`, `input`, `output`, with optional `system` and `history`.

The question is the instruction, a blank line, and the input if there is one. `history` holds
earlier (question, answer) pairs.
"""

from luthier.core.errors import nearest
from luthier.core.types import Content, JsonObject, Message
from luthier.data.json_rows import json_kind
from luthier.data.messages import answer_text, conversation, ensure_text_only, system_turn, value_text
from luthier.data.problems import RowProblem


def matches(row: JsonObject) -> bool:
    """Tell whether the row has an instruction and an output."""
    return "instruction" in row and "output" in row


def read(row: JsonObject) -> Content:
    """Read the row as a conversation; raise RowProblem."""
    ensure_text_only(row)
    question = _question(row)
    answer = answer_text(row, "output")
    turns = [*system_turn(row.get("system")), *_history(row), Message("user", question), Message("assistant", answer)]
    return conversation(turns)


def _question(row: JsonObject) -> str:
    if not row:
        raise RowProblem("empty-row", "the row is an object without keys")
    if "instruction" not in row and "input" not in row:
        raise RowProblem("missing-prompt", f"there is neither 'instruction' nor 'input'.{nearest('instruction', row)}")
    values = (row.get("instruction"), row.get("input"))
    parts = [value_text(value) for value in values if value is not None]
    question = "\n\n".join(part for part in parts if part.strip())
    if not question:
        raise RowProblem("empty-prompt", "'instruction' and 'input' are both empty")
    return question


def _history(row: JsonObject) -> list[Message]:
    history = row.get("history") or []
    if not isinstance(history, list):
        raise RowProblem("wrong-type", f"'history' must be a list of pairs, this is {json_kind(history)}")
    turns: list[Message] = []
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise RowProblem("wrong-type", "'history' must hold pairs of a question and its answer")
        turns += [Message("user", str(pair[0])), Message("assistant", str(pair[1]))]
    return turns
