"""Raw documents: `text`, with nothing beside it but what describes the document."""

from luthier.core.types import Content, JsonObject, Text
from luthier.data.formats import chatml, inst
from luthier.data.json_rows import json_kind
from luthier.data.problems import RowProblem

_DESCRIPTIONS = frozenset(
    [
        "id",
        "url",
        "source",
        "meta",
        "metadata",
        "title",
        "timestamp",
        "date",
        "language",
        "lang",
        "license",
        "author",
        "file",
        "path",
        "subset",
    ]
)


def matches(row: JsonObject) -> bool:
    """Tell whether the row is a document: every other key only describes it, and it is no written-out chat."""
    described = "text" in row and all(key == "text" or key.lower() in _DESCRIPTIONS for key in row)
    return described and not chatml.matches(row) and not inst.matches(row)


def read(row: JsonObject) -> Content:
    """Read the document; raise RowProblem."""
    text = row.get("text")
    if not isinstance(text, str):
        raise RowProblem("wrong-type", f"'text' must be a text, this is {json_kind(text)}")
    if not text.strip():
        raise RowProblem("empty-text", "'text' is empty")
    return Text(text)
