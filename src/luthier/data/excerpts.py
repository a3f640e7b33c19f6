"""A few words of a row for a person: what it asks and answers, or the place where a repair changes it."""

from luthier.core.types import Content, Conversation, Message, Preference, Rejected, Row, Text
from luthier.data.health import Excerpt
from luthier.data.normal import answer, question

_MOST_CHARACTERS = 240
_BEFORE_THE_CHANGE = 40
_CUT = "..."


def excerpt(row: Row | Rejected, mended: Content | None = None) -> Excerpt:
    """Return the words of a row; with `mended` those around the first place in which the two differ."""
    if isinstance(row, Rejected):
        return Excerpt(clipped(row.detail))
    if mended is None:
        return Excerpt(clipped(_on_one_line(row)))
    return _around_the_change(content_text(row.content), content_text(mended))


def content_text(content: Content) -> str:
    """Return all text that content holds, a turn a line."""
    match content:
        case Text(text):
            return text
        case Preference(prompt, chosen, rejected):
            turns = (*prompt, *chosen, *rejected)
        case Conversation(messages):
            turns = messages
    return "\n".join(map(_turn_text, turns))


def clipped(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Return at most `most` characters."""
    return text if len(text) <= most else text[: most - len(_CUT)] + _CUT


def _turn_text(turn: Message) -> str:
    calls = "".join(f" {call}" for call in turn.tool_calls)
    return f"{turn.role}: {turn.content}{calls}"


def _on_one_line(row: Row) -> str:
    asked, answered = (" ".join(text[: 2 * _MOST_CHARACTERS].split()) for text in (question(row), answer(row)))
    if not answered:
        return asked
    room = max(_MOST_CHARACTERS // 2, _MOST_CHARACTERS - len(answered) - 4)
    return f"{clipped(asked, room)} -> {answered}"


def _around_the_change(before: str, after: str) -> Excerpt:
    same = next((at for at, (old, new) in enumerate(zip(before, after)) if old != new), min(len(before), len(after)))
    start = max(0, same - _BEFORE_THE_CHANGE)
    head = _CUT if start else ""
    return Excerpt(clipped(head + before[start:]), clipped(head + after[start:]))
