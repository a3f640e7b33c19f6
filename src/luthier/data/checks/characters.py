"""Characters that came from damage or that nobody sees, and white space around answers.

A model learns every one of them: a zero-width space within a word splits it into other tokens, an
answer that ends in a space is served with it.

What it cannot see: a wrong letter that is itself a letter (Greek read as Cyrillic), mojibake that lost
a byte on the way, look-alike letters of other scripts, and anything in tool definitions.
"""

import re
from collections.abc import Iterable
from typing import ClassVar

from luthier.core.types import Content, Finding, Row
from luthier.data.checking import Context, Dimension
from luthier.data.gathered import Fault, Gathered, covered, safe_fix, shown
from luthier.data.mojibake import unscrambled
from luthier.data.odd_characters import KINDS, LASTING, cleaned, decomposed, odd_characters
from luthier.data.passages import Passage, passages, rewritten


class Check:
    """Find damaged, invisible and control characters, accents written two ways, and stray white space in answers."""

    dimension: ClassVar[Dimension] = "valid"
    effect: ClassVar[str] = "the model learns the damage: odd tokens within words, stray spaces at the end of answers"
    blind: ClassVar[str] = "damage that leaves ordinary letters, look-alike letters of other scripts, tool definitions"

    def __init__(self, context: Context) -> None:
        self._found = Gathered()
        self._num_answered = 0
        self._composes = False

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Look at every text of the row; each kind of fault counts once a row."""
        seen: dict[str, str] = {}
        answered = False
        for text, is_answer in passages(row.content):
            if not text.isascii():
                self._composes = self._composes or _COMPOSED.search(text) is not None
                _add_damage(text, seen)
            elif _CONTROL.search(text):
                _add_odd(text, seen)
            if is_answer:
                answered = True
                _add_space(text, seen)
        self._num_answered += answered
        for kind, example in seen.items():
            self._found.add(kind, row, example, None if kind in _NOT_MENDED else safe_fix(row))
        return ()

    def end(self) -> Iterable[Finding]:
        """Report one finding a kind; what most rows do alike is a convention and only worth knowing."""
        faults = dict(_FAULTS)
        if not self._composes:
            faults["decomposed-accent"] = _ALL_DECOMPOSED
        if 2 * self._found.count("outer-space") > self._num_answered:
            faults["outer-space"] = _SPACE_AS_CONVENTION
        return self._found.findings("characters", faults)

    def repair(self, content: Content) -> Content:
        """Turn mojibake back, take odd characters out, compose accents and trim the answers."""
        return rewritten(content, _mended)


def _mended(passage: Passage) -> str:
    text = cleaned(passage.text)
    return _trimmed(text) if passage.is_answer else text


def _trimmed(text: str) -> str:
    """Take the outer white space off; the first line of several keeps its indentation, which may be code's."""
    if not text.strip():
        return text
    return text.strip() if "\n" not in text.strip() else text.rstrip().lstrip("\r\n")


def _add_damage(text: str, seen: dict[str, str]) -> None:
    right = unscrambled(text)
    if right != text:
        seen.setdefault("mojibake", _difference(text, right))
    if decomposed(right):
        seen.setdefault("decomposed-accent", "")
    _add_odd(right, seen)


def _add_odd(text: str, seen: dict[str, str]) -> None:
    for kind, offset in odd_characters(text):
        if kind not in seen:
            around = text[max(0, offset - 12) : offset + 12]
            seen[kind] = f"U+{ord(text[offset]):04X} at character {offset}: {shown(around)}"


def _add_space(text: str, seen: dict[str, str]) -> None:
    if _trimmed(text) != text:
        plain = covered(text[:10] + "..." + text[-10:] if len(text) > 23 else text)
        seen.setdefault("outer-space", ascii(plain))
    elif "  " in text and "```" not in text and _INNER_SPACE.search(text):
        seen.setdefault("inner-space", "")


def _difference(text: str, right: str) -> str:
    start = next((at for at, (old, new) in enumerate(zip(text, right)) if old != new), min(len(text), len(right)))
    start = max(0, start - 10)
    return f"{shown(text[start : start + 24])} is {shown(right[start : start + 22])}"


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_COMPOSED = re.compile("[\u00c0-\u024f\u1e00-\u1fff]")
_INNER_SPACE = re.compile(r"[^\s|] {2,}[^\s|]")
_NOT_MENDED = LASTING | {"inner-space"}
_TAKEN_OUT = "Nothing needs to be done with --fix, which takes them out; else clean the export that wrote them."
_ODD_WORDS = {
    "replacement-character": "hold U+FFFD or U+FFFC where a character was lost",
    "hidden-text": "hold tag characters, which people do not see and models read",
    "direction-character": "hold characters that turn the direction of reading without right-to-left text",
    "control-character": "hold control characters",
    "invisible-character": "hold invisible characters (zero-width, soft hyphen, byte order mark) within text",
    "line-separator": "hold the line or paragraph separator U+2028 or U+2029",
    "private-use-character": "hold private-use characters, which mean something in one font only",
}
_FAULTS: dict[str, Fault] = {
    "mojibake": Fault(
        "warning",
        0.95,
        "hold UTF-8 that was read as Windows-1252 or Latin-1 (mojibake)",
        "--fix turns it back; read the file that it came from with its right encoding.",
    ),
    **{
        kind: Fault(
            "warning",
            1.0,
            _ODD_WORDS[kind],
            "Get the text again from its source: what stood there cannot be known." if kind in LASTING else _TAKEN_OUT,
        )
        for kind in KINDS
    },
    "decomposed-accent": Fault(
        "warning",
        0.9,
        "write accents as a letter and a mark (NFD) where other rows write one character (NFC)",
        "--fix composes them, so that the same word is the same tokens everywhere.",
    ),
    "outer-space": Fault(
        "warning",
        0.9,
        "have answers that begin or end with white space",
        "--fix trims them; an answer served with a stray space fails an exact comparison.",
    ),
    "inner-space": Fault(
        "info",
        0.6,
        "have several spaces in a row within an answer",
        "Look whether they mean something (a table, code); they are left as they are.",
    ),
}
_ALL_DECOMPOSED = Fault(
    "info",
    0.9,
    "write accents as a letter and a mark (NFD), as all rows with accents do",
    "--fix composes them; text that people type arrives composed (NFC).",
)
_SPACE_AS_CONVENTION = Fault(
    "info",
    0.9,
    "have answers that begin or end with white space, as most rows do",
    "Keep it if your program expects it; the model will write it. --fix trims all of them alike.",
)
