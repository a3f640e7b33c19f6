"""Kinds of questions that are easy to forget: each has a name, and a row may be of several."""

import re
from collections.abc import Iterator

from luthier.core.types import Conversation, Row

_DIGIT = re.compile(r"\d")
_CAPITALS = re.compile(r"[A-Z]{3}")
_LONG_CHARACTERS = 2_000
_FEW_WORDS = 2

EDGE_CASES = (
    "of one or two words", "longer than 2,000 characters", "with numbers", "with letters beyond ASCII", "with a link",
    "with code", "written in capitals", "of several lines", "of several turns", "with tools",
)  # fmt: skip


def edge_cases(row: Row, asked: str) -> Iterator[str]:
    """Yield the names of the kinds that a row with this question is of."""
    if asked.count(" ") < _FEW_WORDS and len(asked.split()) <= _FEW_WORDS:
        yield "of one or two words"
    if len(asked) > _LONG_CHARACTERS:
        yield "longer than 2,000 characters"
    if _DIGIT.search(asked):
        yield "with numbers"
    if not asked.isascii():
        yield "with letters beyond ASCII"
    if "://" in asked or "www." in asked:
        yield "with a link"
    if "```" in asked or ("{" in asked and "};" in asked):
        yield "with code"
    if asked.isupper() and _CAPITALS.search(asked):
        yield "written in capitals"
    if isinstance(row.content, Conversation):
        yield from _of_conversation(row.content)
    if "\n" in asked and not (isinstance(row.content, Conversation) and _num_asked(row.content) > 1):
        yield "of several lines"


def _of_conversation(content: Conversation) -> Iterator[str]:
    if _num_asked(content) > 1:
        yield "of several turns"
    if content.tools:
        yield "with tools"


def _num_asked(content: Conversation) -> int:
    return sum(message.role == "user" for message in content.messages)
