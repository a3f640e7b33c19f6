"""Characters that people do not see or did not mean: what they are, where they are right, how they go.

Right in their place, and left alone: joiners in Arabic and Indic scripts and in emoji, zero-width
spaces in Thai and its neighbours, direction marks beside right-to-left letters, tags in flags.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from luthier.data.mojibake import unscrambled

_MOST_ROUNDS = 8
_LONGEST_FLAG = 8


class Odd(NamedTuple):
    """One odd character: its kind and where it stands."""

    kind: str
    offset: int


def odd_characters(text: str) -> Iterator[Odd]:
    """Yield every odd character of a text in order."""
    turns = _turns(text)
    for match in _ODD.finditer(text):
        kind = _kind(text, match.start(), turns)
        if kind is not None:
            yield Odd(kind, match.start())


def decomposed(text: str) -> bool:
    """Tell whether an accent stands behind its letter where one character would say both."""
    return any(len(_composed(match)) < len(match[0]) for match in _ACCENTED.finditer(text))


def cleaned(text: str) -> str:
    """Return the text with mojibake turned back, odd characters gone and accents composed.

    Private-use characters and U+FFFD stay: what they stood for cannot be known.
    """
    for _ in range(_MOST_ROUNDS):
        better = _cleaned_once(text)
        if better == text:
            break
        text = better
    return text


def _cleaned_once(text: str) -> str:
    if not text.isascii():
        text = _ACCENTED.sub(_composed, unscrambled(text))
    text = _TERMINAL_CODE.sub("", text)
    turns = _turns(text)
    return _ODD.sub(lambda match: _replacement(text, match.start(), turns), text)


def _turns(text: str) -> bool:
    """Tell whether a text holds right-to-left letters, beside which direction marks belong."""
    return not text.isascii() and _RIGHT_TO_LEFT.search(text) is not None


def _replacement(text: str, offset: int, turns: bool) -> str:
    character = text[offset]
    kind = _kind(text, offset, turns)
    if kind is None or kind in LASTING:
        return character
    command = _LATEX.match(text, offset)
    if command is not None:
        return f"\\{_ESCAPES[character]}"
    if character in _LINE_BREAKS:
        return "\n"
    if "\x80" <= character <= "\x9f":  # curly quotes and dashes, once read as Latin-1
        return character.encode("latin-1").decode("cp1252", "ignore")
    return ""


def _kind(text: str, offset: int, turns: bool) -> str | None:
    character = text[offset]
    if character in _LINE_SEPARATORS:
        return "line-separator"
    if character in "\ufffd\ufffc":
        return "replacement-character"
    if character in _OVERRIDES:
        return "direction-character"
    if character in _DIRECTIONS:
        return None if turns else "direction-character"
    if character in _JOINERS:
        return None if _joins(text, offset) else "invisible-character"
    if character == "\u200b":
        return None if _SPACELESS.search(text[max(0, offset - 1) : offset + 2]) else "invisible-character"
    if character in _INVISIBLE:
        return "invisible-character"
    if _TAGS.match(character):
        return None if _in_flag(text, offset) else "hidden-text"
    if _SELECTORS.match(character):
        return None if offset and _IDEOGRAPH.match(text[offset - 1]) else "hidden-text"
    return "private-use-character" if unicodedata.category(character) == "Co" else "control-character"


def _joins(text: str, offset: int) -> bool:
    before = text[max(0, offset - 2) : offset].rstrip("\ufe0f")[-1:]
    return bool(before) and (bool(_JOINING.match(before)) or unicodedata.category(before) in ("So", "Sk"))


def _in_flag(text: str, offset: int) -> bool:
    """Tell whether a run of tags follows the black flag, as in the flag of Scotland."""
    before = text[max(0, offset - _LONGEST_FLAG) : offset]
    return bool(before) and _FLAG.search(before) is not None


def _composed(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", match[0])


KINDS = (
    "replacement-character",
    "hidden-text",
    "direction-character",
    "control-character",
    "invisible-character",
    "line-separator",
    "private-use-character",
)
LASTING = frozenset(["replacement-character", "private-use-character"])
# A backslash that JSON read as an escape: "\\frac" written with one backslash is a form feed and "rac".
_ESCAPES = {"\x07": "a", "\x08": "b", "\x0b": "v", "\x0c": "f"}
_LATEX = re.compile(
    "\x07(?:lpha|pprox|ngle|st)\\b|\x08(?:egin|eta|ar|inom|oldsymbol|oxed|ig[lr]?|ullet)\\b"
    "|\x0b(?:ec|ert|arphi|dots|ee)\\b|\x0c(?:rac|orall|lat|loor|box)\\b"
)
_LINE_SEPARATORS = "\u2028\u2029"
_LINE_BREAKS = frozenset("\x0b\x0c" + _LINE_SEPARATORS)
_OVERRIDES = frozenset("\u202d\u202e")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069")
_JOINERS = frozenset("\u200c\u200d")
_INVISIBLE = frozenset(
    "\u00ad\u180e\u2060\u2061\u2062\u2063\u2064\u206a\u206b\u206c\u206d\u206e\u206f\ufeff\ufff9\ufffa\ufffb"
)
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
_JOINING = re.compile("[\u0600-\u109f\u1700-\u18af\u1a20-\u1aaf\ua840-\ua87f\ufb50-\ufdcf\ufe70-\ufefc]")
_SPACELESS = re.compile("[\u0e00-\u109f\u1780-\u17ff\u1a20-\u1aaf]")
_IDEOGRAPH = re.compile("[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_TAGS = re.compile("[\U000e0000-\U000e007f]")
_FLAG = re.compile("\U0001f3f4[\U000e0000-\U000e007f]*$")
_SELECTORS = re.compile("[\U000e0100-\U000e01ef]")
_ODD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ue000-\uf8ff"
    "\ufdd0-\ufdef\ufeff\ufff9-\uffff\U000e0000-\U000e01ef\U000f0000-\U0010ffff]"
)
_TERMINAL_CODE = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]")
_ACCENTED = re.compile("[A-Za-z\u00c0-\u024f\u0370-\u052f\u1e00-\u1fff][\u0300-\u036f]+")
