"""Numbers that carry their own proof: payment cards, IBANs and national ids whose check digits are right.

National ids that are known, with the proof of each:

- United States, social security number: shape and the ranges never issued (it has no check digit);
- United Kingdom, national insurance number: shape and prefixes never issued (no check digit);
- Spain, DNI and NIE: letter of the number modulo 23;
- France, NIR: 97 minus the number modulo 97;
- Italy, codice fiscale: check character over odd and even places;
- Poland, PESEL: weighted sum modulo 10, and a date that exists;
- Sweden, personnummer: Luhn, and a date that exists;
- Brazil, CPF as 000.000.000-00: two check digits modulo 11;
- India, Aadhaar as 0000 0000 0000: Verhoeff;
- China, resident identity: ISO 7064 modulo 11-2, and a date that exists.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple


class NationalId(NamedTuple):
    """One country's id: the shape to look for, and the proof of a match.

    `checked` tells a proof from a mere shape; `lettered` that the shape begins with a capital letter.
    """

    country: str
    shape: re.Pattern[str]
    proves: Callable[[str], bool]
    checked: bool = True
    lettered: bool = False


def luhn(number: str) -> bool:
    """Tell whether a string of digits passes the Luhn check (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(number: str) -> bool:
    """Tell whether digits are a payment card's: a known prefix, its brand's length, and Luhn."""
    known = any(len(number) in lengths and shape.match(number) for shape, lengths in _CARDS)
    return known and luhn(number)


def is_iban(text: str) -> bool:
    """Tell whether text is an IBAN: its country's length, and 1 modulo 97 (ISO 13616)."""
    plain = text.replace(" ", "")
    if _IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def find_numbers(text: str, many_digits: bool) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and kind (`iban`, `card`, `national-id`, `social-security-number`) of every number found.

    `many_digits` says whether the text has eight digits close together.
    """
    lettered = _LETTERED.search(text) is not None
    if lettered:
        yield from ((start, end, "iban") for start, end in _ibans(text))
    if many_digits:
        yield from ((start, end, "card") for start, end in _cards(text))
    for national in NATIONAL_IDS:
        if lettered if national.lettered else many_digits:
            for match in national.shape.finditer(text):
                if national.proves(match[0]):
                    yield *match.span(), "national-id" if national.checked else "social-security-number"


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Yield card numbers, bare or in the groups that are printed on cards."""
    for match in _CARD_SHAPE.finditer(text):
        if is_card(_digits(match[0])):
            yield match.span()


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """Yield IBANs, bare or in groups of four."""
    for match in _IBAN_SHAPE.finditer(text):
        length = _IBAN_LENGTHS.get(match[1])
        end = None if length is None else _end_after(text, match.start(), length)
        if end is not None and is_iban(text[match.start() : end]):
            yield match.start(), end


def _end_after(text: str, start: int, length: int) -> int | None:
    """Return where `length` letters and digits end, at most a space between groups; None if the word goes on."""
    at = start
    while length and at < len(text):
        if text[at].isalnum() and text[at].isascii():
            length -= 1
        elif text[at] != " ":
            return None
        at += 1
    return None if length or text[at : at + 1].isalnum() else at


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _weighted(digits: str, weights: str | tuple[int, ...]) -> int:
    return sum(int(digit) * int(weight) for digit, weight in zip(digits, weights))


def _is_date(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def _spanish(text: str) -> bool:
    plain = text.replace("-", "")
    number = int(plain[:-1].translate(str.maketrans("XYZ", "012")))
    return plain[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]


def _french(text: str) -> bool:
    plain = text.replace(" ", "")
    number = plain[:13].replace("2A", "19").replace("2B", "18")
    return _is_date(plain[3:5], "1") and 97 - int(number) % 97 == int(plain[13:])


def _italian(text: str) -> bool:
    odd = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", _ITALIAN_ODD[:10] + _ITALIAN_ODD))
    total = sum(odd[character] for character in text[:15:2]) + sum(_ordinal(character) for character in text[1:15:2])
    return chr(ord("A") + total % 26) == text[15]


def _ordinal(character: str) -> int:
    return int(character) if character.isdigit() else ord(character) - ord("A")


def _polish(text: str) -> bool:
    control = (10 - _weighted(text[:10], "1379137913") % 10) % 10
    return control == int(text[10]) and _is_date(str((int(text[2:4]) - 1) % 20 + 1), text[4:6])


def _swedish(text: str) -> bool:
    digits = _digits(text)[-10:]
    return _is_date(digits[2:4], digits[4:6]) and luhn(digits)


def _brazilian(text: str) -> bool:
    digits = _digits(text)
    first = _weighted(digits[:9], tuple(range(10, 1, -1))) * 10 % 11 % 10
    second = _weighted(digits[:10], tuple(range(11, 1, -1))) * 10 % 11 % 10
    return len(set(digits)) > 1 and digits[9:] == f"{first}{second}"


def _indian(text: str) -> bool:
    checksum = 0
    for place, digit in enumerate(reversed(_digits(text))):
        checksum = _dihedral(checksum, _permuted(int(digit), place % 8))
    return checksum == 0


def _dihedral(one: int, other: int) -> int:
    """Multiply in the group of the ten symmetries of a pentagon, on which Verhoeff's check rests."""
    turned = (one + other if one < 5 else one - other) % 5
    return turned + 5 * ((one < 5) != (other < 5))


def _permuted(digit: int, times: int) -> int:
    for _ in range(times):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit


def _chinese(text: str) -> bool:
    total = _weighted(text[:17], (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))
    return _is_date(text[10:12], text[12:14]) and "10X98765432"[total % 11] == text[17].upper()


def _by_shape(text: str) -> bool:
    return True


_LETTERED = re.compile(r"[A-Z][ -]?\d\d")
_ITALIAN_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_APART = r"(?<![\w.,#$/+-])"
_ENDS = r"(?![\w-]|[.,]\d)"
_CARDS = (
    (re.compile("4"), (16, 19)),  # no longer 13, which would be bar codes
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile("3[47]"), (15,)),
    (re.compile("6011|64[4-9]|65|62"), (16, 17, 18, 19)),
    (re.compile("30[0-5]|36|3[89]"), (14,)),
    (re.compile("35(?:2[89]|[3-8])"), (16,)),
)
_CARD_SHAPE = re.compile(
    r"(?<![\w.,-])(?:\d{13,19}|\d{4}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}(?:(?P=gap)\d{3})?"
    r"|\d{4}(?P<other>[ -])\d{6}(?P=other)\d{4,5})" + _ENDS
)
_IBAN_SHAPE = re.compile(r"(?<![\w-])([A-Z]{2})\d{2}(?= ?[A-Z0-9]{4})")
_IBAN_LENGTHS = {
    country: int(length)
    for entry in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 "
        "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
        "LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 "
        "SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
    ).split()
    for country, length in [(entry[:2], entry[2:])]
}
NATIONAL_IDS: tuple[NationalId, ...] = (
    NationalId(
        "US", re.compile(_APART + r"(?!000|666)\d{3}-(?!00)\d\d-(?!0000)\d{4}" + _ENDS), _by_shape, checked=False
    ),
    NationalId(
        "GB",
        re.compile(
            r"(?<![\w-])(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D](?![\w-])"
        ),
        _by_shape,
        checked=False,
        lettered=True,
    ),
    NationalId("ES", re.compile(_APART + r"\d{8}-?[A-HJ-NP-TV-Z]" + _ENDS), _spanish),
    NationalId("ES", re.compile(_APART + r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]" + _ENDS), _spanish, lettered=True),
    NationalId("FR", re.compile(_APART + r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d" + _ENDS), _french),
    NationalId(
        "IT", re.compile(r"(?<![\w-])[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?![\w-])"), _italian, lettered=True
    ),
    NationalId("PL", re.compile(_APART + r"\d{11}" + _ENDS), _polish),
    NationalId("SE", re.compile(_APART + r"(?:19|20)?\d{6}[-+]\d{4}" + _ENDS), _swedish),
    NationalId("BR", re.compile(_APART + r"\d{3}\.\d{3}\.\d{3}-\d\d" + _ENDS), _brazilian),
    NationalId("IN", re.compile(_APART + r"[2-9]\d{3}( )\d{4}\1\d{4}" + _ENDS), _indian),
    NationalId("CN", re.compile(_APART + r"[1-9]\d{5}(?:19|20)\d{9}[\dXx]" + _ENDS), _chinese),
)
