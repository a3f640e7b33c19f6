"""Regular expressions that an answer cannot hang: a search that computes too long is given up.

The package `regex` reads the syntax of Python's `re` and can be stopped by the clock, which `re` cannot.
"""

from enum import Enum

import regex

from luthier.core.errors import SettingsError

SECONDS = 1.0


class Found(Enum):
    """How a search ended."""

    YES = "yes"
    NO = "no"
    TOO_SLOW = "too slow"


def compiled(pattern: str, where: str, *, ignore_case: bool = False) -> "regex.Pattern[str]":
    """Compile a pattern of the user's; raise SettingsError that names the setting `where` it stands."""
    try:
        return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
    except regex.error as error:
        raise SettingsError(f"{where}: {pattern!r} is not a regular expression: {error}.") from error


def search(pattern: "regex.Pattern[str]", text: str, *, whole: bool = False) -> "tuple[Found, regex.Match[str] | None]":
    """Search a text, or match it as a whole; a search is given up after a second of computing and then counts as not found."""
    try:
        match = pattern.fullmatch(text, timeout=SECONDS) if whole else pattern.search(text, timeout=SECONDS)
    except TimeoutError:
        return Found.TOO_SLOW, None
    return (Found.YES if match else Found.NO), match
