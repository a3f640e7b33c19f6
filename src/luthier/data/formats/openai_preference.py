"""OpenAI's preference rows: `input.messages`, `preferred_output` and `non_preferred_output`."""

from luthier.core.types import Content, JsonObject
from luthier.data.json_rows import json_kind
from luthier.data.messages import messages_from, preference, tools_from
from luthier.data.problems import RowProblem


def matches(row: JsonObject) -> bool:
    """Tell whether the row has a preferred and a non-preferred output."""
    return "preferred_output" in row and "non_preferred_output" in row


def read(row: JsonObject) -> Content:
    """Read the pair; raise RowProblem."""
    asked = row.get("input")
    if not isinstance(asked, dict):
        raise RowProblem("missing-prompt", f"'input' must be an object with 'messages', this is {json_kind(asked)}")
    return preference(
        messages_from(asked.get("messages"), "input.messages"),
        messages_from(row.get("preferred_output"), "preferred_output"),
        messages_from(row.get("non_preferred_output"), "non_preferred_output"),
        tools_from(asked),
    )
