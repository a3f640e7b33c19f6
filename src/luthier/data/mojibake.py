"""UTF-8 that somebody read as Windows-1252 or Latin-1 and wrote again: found, and turned back.

The two, three or four characters of such damage also occur by chance: a capital letter before a
closing quote is a valid pair. So a lone pair counts only where its first character is one that
stands for the common letters of Western text, and other pairs only where the text holds several.
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
    runs = len(_RUN.findall(text)) if _RUN.search(text) else 0
    return _RUN.sub(lambda match: _turned_back(match, lonely=runs == 1), text) if runs else text


def _turned_back(run: re.Match[str], lonely: bool) -> str:
    try:
        right = bytes(_BYTES[character] for character in run[0]).decode("utf-8")
    except UnicodeDecodeError:  # a valid shape that is no character, such as an overlong form
        return run[0]
    printable = all(unicodedata.category(character) not in _NEVER_WRITTEN for character in right)
    return right if printable and _plausible(run, right, lonely and len(right) == 1) else run[0]


def _plausible(run: re.Match[str], right: str, lonely: bool) -> bool:
    lead = run[0][0]
    if lead in _SURE_LEADS:
        return True
    if lead in _WESTERN_LEADS:
        before, after = run.string[: run.start()][-1:], run.string[run.end() :][:1]
        # All capitals before a closing quote ("IRMA" with tilde) is more likely than a damaged letter.
        return not lonely or not before.isupper() or after.islower()
    if lead in _LATIN_EXTENDED_LEADS:
        before, after = run.string[: run.start()][-1:], run.string[run.end() :][:1]
        return not lonely or before.islower() or after.islower()
    return not lonely and all(unicodedata.category(character)[0] in "LM" for character in right)


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
_RUN = re.compile(f"(?:[\u00c2-\u00df]{_TAIL}|[\u00e0-\u00ef]{_TAIL}{{2}}|[\u00f0-\u00f4]{_TAIL}{{3}})+")
_NEVER_WRITTEN = frozenset(["Cc", "Cn", "Co", "Cs"])
# General punctuation, byte order marks and U+FFFD, emoji: each made of three or four characters.
_SURE_LEADS = frozenset("\u00e2\u00ef\u00f0")
_WESTERN_LEADS = frozenset("\u00c2\u00c3")
_LATIN_EXTENDED_LEADS = frozenset("\u00c4\u00c5")
