"""Where private data stands in a text: secrets, proven numbers, e-mail addresses, phone numbers, IP addresses.

Conservative: a span is named when its shape, its check digits or the words before it leave little
doubt. Names and postal addresses of people are not claimed.
"""

import ipaddress
import re
from bisect import bisect
from collections.abc import Iterator
from typing import NamedTuple

from luthier.data.identifiers import find_numbers
from luthier.data.secret_shapes import find_secrets


class Span(NamedTuple):
    """A stretch of text, end exclusive, and what it is."""

    start: int
    end: int
    kind: str


SECRETS = frozenset(["private-key", "api-key", "password"])
PROVEN = frozenset(["iban", "card", "national-id"])
KINDS = (
    "private-key", "api-key", "password", "iban", "card", "national-id",
    "social-security-number", "email", "email-in-words", "phone", "ip-address",
)  # fmt: skip


def private_spans(text: str) -> list[Span]:
    """Return the spans in order; where two overlap, the kind that is named first in KINDS stays."""
    spans: list[Span] = []
    for span in _found(text):
        at = bisect(spans, span)
        if (at == 0 or spans[at - 1].end <= span.start) and (at == len(spans) or span.end <= spans[at].start):
            spans.insert(at, span)
    return spans


def _found(text: str) -> Iterator[Span]:
    """Yield spans by kind; every detector is behind a test that is cheap on text which holds nothing."""
    for start, end, kind in find_secrets(text):
        yield Span(start, end, kind)
    many_digits = _MANY_DIGITS.search(text) is not None
    for start, end, kind in find_numbers(text, many_digits):
        yield Span(start, end, kind)
    if "@" in text:
        yield from (Span(*match.span(), "email") for match in _EMAIL.finditer(text) if not _in_url(text, match.start()))
    if _may_spell_out(text.lower()):
        yield from (Span(*match.span(), "email-in-words") for match in _EMAIL_IN_WORDS.finditer(text))
    if many_digits:
        yield from (Span(start, end, "phone") for start, end in _phones(text))
    if _DOTTED.search(text) or "::" in text or text.count(":") > 6:
        yield from _addresses(text)


def _in_url(text: str, start: int) -> bool:
    """Tell whether what stands before an `@` are the user and password of a URL."""
    before = text[max(0, start - 100) : start]
    return "://" in before.rpartition(" ")[2]


def _may_spell_out(lower: str) -> bool:
    if "[at]" in lower or "(at)" in lower:
        return True
    return " at " in lower and (" dot " in lower or any(provider in lower for provider in _PROVIDERS))


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _INTERNATIONAL.finditer(text):
        number = "".join(re.findall(r"\d", match[0]))
        sum_before = _CALCULATES.search(text[max(0, match.start() - 8) : match.start()])
        if 9 <= len(number) <= 15 and _COUNTRY.match(number) and not sum_before:
            yield match.span()
    for match in _NATIONAL.finditer(text):
        if len(re.findall(r"\d", match[0])) in (10, 11):
            yield match.span()
    for match in _BARE.finditer(text):
        if _PHONE_WORD.search(text[max(0, match.start() - 30) : match.start()]):
            yield match.span()


def _addresses(text: str) -> Iterator[Span]:
    for match in (*_IPV4.finditer(text), *_IPV6.finditer(text)):
        if _VERSION.search(text[max(0, match.start() - 12) : match.start()]):
            continue
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified or match[0].startswith("255.")):
            yield Span(*match.span(), "ip-address")


# What every id, card and phone number holds; a text without it needs no closer look.
_MANY_DIGITS = re.compile(r"\d(?:[ .()/+-]{0,2}\d){7}")
_PROVIDERS = ("gmail", "yahoo", "hotmail", "outlook", "icloud", "aol", "gmx", "proton")
_DOTTED = re.compile(r"\d\.\d{1,3}\.\d")
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9_][A-Za-z0-9._%+'-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w@])"
)
_WORD = r"[A-Za-z0-9_+-]{1,40}"
# "is ana [at] ..." begins with the verb, "ana lee [at] ..." with the first half of the address.
_FIRST_NAME = (
    r"(?!(?:is|at|to|me|my|us|on|or|and|via|by|the|it|mail|e-?mail|address|contact|write|reach)\b)[A-Za-z]{1,40}"
)
_AT = r" ?(?:\[at\]|\(at\)) ?"
_DOT = r"(?:\.| ?\[dot\] ?| ?\(dot\) ?| dot )"
# A plain "at" needs a spoken dot on its left, or a mail provider on its right: "look at example.com" is no address.
_EMAIL_IN_WORDS = re.compile(
    rf"(?i)(?<![\w.+-])(?:(?:{_FIRST_NAME} )?{_WORD}(?:{_DOT}{_WORD}){{0,3}}{_AT}{_WORD}(?:{_DOT}{_WORD}){{1,3}}"
    rf"|{_WORD}(?: dot {_WORD}){{1,3}} at {_WORD}(?:{_DOT}{_WORD}){{1,3}}"
    rf"|{_WORD} at (?:gmail|yahoo|hotmail|outlook|icloud|aol|gmx|proton(?:mail)?){_DOT}[a-z]{{2,6}})(?![\w])"
)
_NO_NUMBER_BEFORE = r"(?<![\w.,+#$/=*^-])(?<!\d )"
_NO_NUMBER_AFTER = r"(?![\w%]|[-.,/]\d| ?[=*^+]| \d)"
_INTERNATIONAL = re.compile(
    _NO_NUMBER_BEFORE
    + r"(?:\+ ?[1-9]\d{0,2}|00[1-9]\d{0,2}[ .-])(?:[ .-]?\(0?\d{1,4}\))?(?:[ .-]?\d){5,13}(?!\w|[-.]\d)"
)
_NATIONAL = re.compile(
    _NO_NUMBER_BEFORE
    + r"(?:(?:1[-. ])?\([2-9]\d{2}\) ?[2-9]\d{2}[-. ]\d{4}|(?:1[-.])?[2-9]\d{2}([-.])[2-9]\d{2}\1\d{4}"
    r"|(?:\(0[1-9]\d{1,3}\)|0[1-9]\d{1,3})[ /-]\d{3,4}[ -]?\d{3,4}|0[1-9](?:[ .-]\d\d){4}|0[1-9]\d(?: \d{3}){2} \d{1,3})"
    + _NO_NUMBER_AFTER
)
_BARE = re.compile(_NO_NUMBER_BEFORE + r"[2-9]\d{2} ?[2-9]\d{2} ?\d{4}" + _NO_NUMBER_AFTER)
_PHONE_WORD = re.compile(r"(?i)\b(?:phone|mobile|cell|telephone|tel|call me|text me|whatsapp|fax)\b[^\d\n+(]{0,20}$")
_CALCULATES = re.compile(r"[\d)=*/xX] ?$")
_COUNTRY = re.compile(
    "0*(?:1[2-9]|7[3-9]|2(?:0|7|[1-689]\\d)|3(?:[0-469]|[578]\\d)|4(?:[013-9]|2\\d)|5(?:[1-8]|[09]\\d)|6(?:[0-6]|[7-9]\\d)"
    "|8(?:[1246]|[08]\\d|5\\d|7\\d)|9(?:[0-58]|[679]\\d))"
)
_IPV4 = re.compile(r"(?<![\w.-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]*\d)(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,6}(?![\w:])")
_VERSION = re.compile(r"(?i)(?:\bv|version|release|ver\.?|section|build) ?$")
