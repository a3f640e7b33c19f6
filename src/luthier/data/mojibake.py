"""UTF-8 that somebody read as Windows-1252 or Latin-1 and wrote again: found, and turned back.

The two, three or four characters of such damage also occur by chance: a capital letter before a
closing quote is a valid pair. So a pair counts where the text also holds damage that does not occur by chance,
or where its first character is one that stands for the common letters of Western text and its
neighbours are small letters.
"""

import re
import unicodedata

_MOST_ROUNDS = 4


def unscrambled(text: str) -> str:
    """Return the text with its mojibake turned back, also where it happened several times; else the text itself."""
    for _ in range(_MOST_ROUNDS):
        better = _once(text)
        if better == text:
            break
        text = better
    return text


def _once(text: str) -> str:
    if not _RUN.search(text):
        return text
    sure = _EVIDENCE.search(text) is not None
    return _RUN.sub(lambda match: _turned_back(match, sure), text)


def _turned_back(run: re.Match[str], sure: bool) -> str:
    try:
        halves = bytes(_BYTES[character] for character in run[0]).decode("utf-8", "surrogatepass")
        right = halves.encode("utf-16", "surrogatepass").decode("utf-16")  # Java writes an emoji as two halves
    except UnicodeDecodeError:  # a valid shape that is no character, such as an overlong form or one half alone
        return run[0]
    printable = all(unicodedata.category(character) not in _NEVER_WRITTEN for character in right)
    return right if printable and (sure or _plausible(run)) else run[0]


def _plausible(run: re.Match[str]) -> bool:
    """Tell whether a lone run is damage rather than capitals before a quote or an ellipsis."""
    before, after = _neighbours(run)
    if run[0][0] in _WESTERN_LEADS:
        return not before.isupper() or after.islower()
    return run[0][0] in _LATIN_EXTENDED_LEADS and (before.islower() or after.islower())


def _neighbours(run: re.Match[str]) -> tuple[str, str]:
    return run.string[max(0, run.start() - 1) : run.start()], run.string[run.end() : run.end() + 1]


def _bytes_of_characters() -> dict[str, int]:
    """Map what Latin-1 and Windows-1252 make of the bytes above ASCII back to the byte."""
    table = {chr(byte): byte for byte in range(0x80, 0x100)}
    for byte in range(0x80, 0xA0):
        character = bytes([byte]).decode("cp1252", "ignore")
        if character:
            table[character] = byte
    return table


_BYTES = _bytes_of_characters()
_TAIL = "[" + "".join(re.escape(character) for character, byte in _BYTES.items() if byte < 0xC0) + "]"
_ONE = f"(?:[\u00c2-\u00df]{_TAIL}|[\u00e0-\u00ef]{_TAIL}{{2}}|[\u00f0-\u00f4]{_TAIL}{{3}})"
_RUN = re.compile(f"{_ONE}+")
# Two damaged characters side by side, or one of general punctuation, byte order marks, U+FFFD or emoji.
_EVIDENCE = re.compile(f"{_ONE}{{2}}|[\u00e2\u00ef]{_TAIL}{{2}}|\u00f0{_TAIL}{{3}}")
_NEVER_WRITTEN = frozenset(["Cc", "Cn", "Co", "Cs"])
_WESTERN_LEADS = frozenset("\u00c2\u00c3")
_LATIN_EXTENDED_LEADS = frozenset("\u00c4\u00c5")
