"""Rows of `text` that were already written with ChatML marks (`<|im_start|>user ...<|im_end|>`).

They are taken apart into turns, so that the model's own template writes them anew; trained as
raw text they would teach another model's marks.
"""

import re

from luthier.core.types import Content, JsonObject, JsonValue
from luthier.data.messages import conversation, messages_from
from luthier.data.problems import RowProblem

_TURN = re.compile(r"\s*<\|im_start\|>[ ]?(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_REST = re.compile(r"\s*(<\|endoftext\|>\s*)?$")


def matches(row: JsonObject) -> bool:
    """Tell whether the text begins with a ChatML turn."""
    text = row.get("text")
    return len(row) == 1 and isinstance(text, str) and text.lstrip().startswith("<|im_start|>")


def read(row: JsonObject) -> Content:
    """Take the text apart into turns; raise RowProblem where a mark is missing."""
    text = row.get("text")
    if not isinstance(text, str):
        raise RowProblem("wrong-type", "'text' must be a text")
    turns: list[JsonValue] = []
    at = 0
    while found := _TURN.match(text, at):
        turns.append({"role": found[1], "content": found[2]})
        at = found.end()
    if not _REST.match(text, at):
        raise RowProblem("broken-marks", f"no whole ChatML turn begins at character {at}")
    return conversation(messages_from(turns, "text"))
