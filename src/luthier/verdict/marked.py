"""What differs between two texts, word by word, marked for a page."""

import re
from difflib import SequenceMatcher
from html import escape

_PIECES = re.compile(r"\w+|\s+|[^\w\s]")
_MOST_PIECES = 600


def marked(text: str, other: str) -> str:
    """Return `text` as escaped HTML with the words marked that `other` does not have in their place.

    Very long texts come without marks: the search takes time with the square of their length.
    """
    ours, theirs = _PIECES.findall(text), _PIECES.findall(other)
    if text == other or max(len(ours), len(theirs)) > _MOST_PIECES:
        return escape(text)
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    return "".join(
        escape(piece) if kind == "equal" or not piece.strip() else f"<mark>{escape(piece)}</mark>"
        for kind, start, end, _, _ in matcher.get_opcodes()
        if (piece := "".join(ours[start:end]))
    )
