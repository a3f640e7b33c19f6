"""What differs between two texts, word by word, marked for a page: what one says instead, and what it leaves out."""

import re
from difflib import SequenceMatcher
from html import escape

_PIECES = re.compile(r"\w+|\s+|[^\w\s]")
_MOST_PIECES = 600
_LONGEST_GAP = 80


def marked(text: str, other: str) -> str:
    """Return `text` as escaped HTML: marked what `other` does not have in its place, struck out what `text` leaves out of it.

    Very long texts come without marks: the search takes time with the square of their length.
    """
    ours, theirs = _PIECES.findall(text), _PIECES.findall(other)
    if text == other or max(len(ours), len(theirs)) > _MOST_PIECES:
        return escape(text)
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    return "".join(
        _said(kind, "".join(ours[start:end])) + _left_out(kind, "".join(theirs[first:last]))
        for kind, start, end, first, last in matcher.get_opcodes()
    )


def _said(kind: str, piece: str) -> str:
    return escape(piece) if kind == "equal" or not piece.strip() else f"<mark>{escape(piece)}</mark>"


def _left_out(kind: str, piece: str) -> str:
    if kind != "insert" or not piece.strip():  # what other words stand in place of is seen by these
        return ""
    short = piece if len(piece) <= _LONGEST_GAP else f"{piece[:_LONGEST_GAP]}\u2026"
    return f"<del>{escape(short)}</del>"
