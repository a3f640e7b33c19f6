"""Rows of `text` that were already written with Llama 2's or Mistral's marks (`<s>[INST] ... [/INST] ...</s>`).

They are taken apart into turns, so that the model's own template writes them anew.
"""

import re

from luthier.core.types import Content, JsonObject, Message
from luthier.data.messages import conversation, system_turn
from luthier.data.problems import RowProblem

_TURN = re.compile(r"\s*(?:<s>)?\s*\[INST\](.*?)\[/INST\](.*?)(?=</s>|<s>|\[INST\]|$)\s*(?:</s>)?", re.DOTALL)
_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)


def matches(row: JsonObject) -> bool:
    """Tell whether the text begins with an instruction in brackets."""
    text = row.get("text")
    return len(row) == 1 and isinstance(text, str) and text.lstrip().removeprefix("<s>").lstrip().startswith("[INST]")


def read(row: JsonObject) -> Content:
    """Take the text apart into turns; raise RowProblem where a mark is missing."""
    text = row.get("text")
    if not isinstance(text, str):
        raise RowProblem("wrong-type", "'text' must be a text")
    turns: list[Message] = []
    at = 0
    while found := _TURN.match(text, at):
        question, answer = found[1], found[2].strip()
        if not turns and (system := _SYSTEM.match(question)):
            turns += system_turn(system[1].strip())
            question = question[system.end() :]
        if not question.strip() or not answer:
            raise RowProblem("empty-answer" if not answer else "empty-prompt", f"the turn at character {at} is empty")
        turns += [Message("user", question.strip()), Message("assistant", answer)]
        at = found.end()
    if text[at:].strip():
        raise RowProblem("broken-marks", f"no whole [INST] turn begins at character {at}")
    return conversation(turns)
