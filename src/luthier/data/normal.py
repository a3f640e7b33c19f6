"""What a row asks, what it answers, and when two texts count as the same.

A leak is decided by the question alone: a test row whose question was trained is spoiled,
whatever its answer says.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from luthier.core.hashing import canonical_json, json_hash
from luthier.core.types import Conversation, JsonValue, Message, Preference, Row, Text


def question(row: Row) -> str:
    """Return the text that decides leaks: every turn but the system's and the last of the assistant.

    A document is its own question, a preference pair's is its prompt. A conversation with
    neither user nor tool turns is asked by its system prompt or, without one, by its answer.
    """
    match row.content:
        case Text(text):
            return text
        case Preference(prompt=prompt):
            return _spoken(prompt) or _joined(prompt)
        case Conversation(messages=messages):
            last = _last_assistant(messages)
            asked = [message for place, message in enumerate(messages) if place != last]
            return _spoken(asked) or _joined(asked) or answer(row)


def answer(row: Row) -> str:
    """Return the last assistant turn with its tool calls as JSON; a document has none.

    The answer of a preference pair is the chosen continuation.
    """
    match row.content:
        case Text():
            return ""
        case Preference(chosen=chosen):
            return _joined(chosen)
        case Conversation(messages=messages):
            last = _last_assistant(messages)
            return "" if last is None else _joined([messages[last]])


def normalized(text: str) -> str:
    """Fold case, accents, punctuation, white space and Unicode's compatible forms away.

    Marks that carry arithmetic (between two numbers, or a sign) stay, so that `8 - 3` is not `8 / 3`;
    marks outside the Latin, Greek and Cyrillic accents stay too, for in Hindi or Thai they are vowels.
    A text of which nothing would remain is returned without the space around it.
    """
    # Every check asks for the same row's texts, one check after another; a very long text is not worth keeping.
    return _remembered(text) if len(text) <= _MOST_REMEMBERED else _normalized(text)


def content_key(row: Row) -> str:
    """Return a hash of everything in the row that training could see."""
    match row.content:
        case Text(text):
            return json_hash(["text", text])
        case Preference(prompt, chosen, rejected, tools):
            return json_hash(["preference", _turns(prompt), _turns(chosen), _turns(rejected), [*tools]])
        case Conversation(messages, tools):
            return json_hash(["conversation", _turns(messages), [*tools]])


def text_key(text: str) -> bytes:
    """Return 16 bytes that stand for a text, for what must remember a million of them."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def place(row: Row) -> str:
    """Return where the row stands, as `file:line`."""
    return f"{row.file}:{row.line}"


def places(rows: Sequence[Row], most: int = 4) -> str:
    """Return where the first few rows stand, and how many more there are."""
    named = ", ".join(place(row) for row in rows[:most])
    return named if len(rows) <= most else f"{named} and {len(rows) - most} more"


def _normalized(text: str) -> str:
    folded = text.casefold() if text.isascii() else _without_accents(text)
    plain = " ".join(folded.translate(_SPACED).split())
    if _OPERATOR.search(plain):
        # Without a number every operator is a stray one, and nearly all texts of prose are told by this alone.
        bare = _STRAY_OPERATOR.sub(" ", plain) if _DIGIT.search(plain) else plain.translate(_NO_OPERATORS)
        plain = " ".join(bare.split())
    return plain or text.strip()


_MOST_REMEMBERED = 10_000
_remembered = lru_cache(maxsize=64)(_normalized)


class _Spaced(dict[int, int]):
    """A table for `str.translate` that fills itself: punctuation and control characters become spaces."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        kept = character in _OPERATORS or unicodedata.category(character)[0] in "LMNS"
        self[code] = code if kept else _SPACE
        return self[code]


_SPACE = ord(" ")
_OPERATORS = "-*/%.,:"
_NO_OPERATORS = dict.fromkeys(map(ord, _OPERATORS), _SPACE)
_OPERATOR = re.compile(r"[-*/%.,:]")
_DIGIT = re.compile(r"\d")
# It begins with what it looks for, so that all other places are passed over quickly.
_STRAY_OPERATOR = re.compile(
    r"(?=[-*/%.,:])(?:(?<!\d)(?<!\d )(?!(?:(?<=\s)|(?<=^))-\d)[-*/%.,:]+|[-*/%.,:]+(?! ?-?\d))"
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_SPACED = _Spaced()


def _without_accents(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", folded))
    return unicodedata.normalize("NFC", bare)


def _turns(messages: Sequence[Message]) -> list[JsonValue]:
    return [message.as_dict() for message in messages]


def _last_assistant(messages: Sequence[Message]) -> int | None:
    return next((place for place in reversed(range(len(messages))) if messages[place].role == "assistant"), None)


def _spoken(messages: Sequence[Message]) -> str:
    return _joined([message for message in messages if message.role != "system"])


def _joined(messages: Sequence[Message]) -> str:
    return "\n".join(filter(None, map(_said, messages)))


def _said(message: Message) -> str:
    if not message.tool_calls:
        return message.content
    calls = canonical_json(list(message.tool_calls))
    return f"{message.content}\n{calls}" if message.content else calls
