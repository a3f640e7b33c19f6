"""Numbers: is the last number of the answer the wanted one?

The last number counts, because worked answers end with their result; after `####` (the mark of
GSM8K, Cobbe et al. 2021, arXiv 2110.14168) the first number counts. Thousands separators, currency signs
and percent signs are read over, fractions are worked out, and values are compared exactly unless a tolerance is given.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from luthier.core.types import Grade, JsonValue

_DIGITS = r"(?:\d{1,3}(?:[,'\u00a0\u2009\u202f]\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,2}(?!\d))?|\.\d+"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)])[-+\u2212]\s?)?(?:[$\u20ac\u00a3\u00a5]\s?)?(?P<top>{_DIGITS})(?:\s?/\s?(?P<bottom>\d+))?"
)
_SEPARATORS = re.compile(r"[,'\u00a0\u2009\u202f]")
_SIGNS = "%$\u20ac\u00a3\u00a5 "
_LONGEST = 100


@dataclass(frozen=True)
class Grader:
    """1 if the last number of the answer equals the last number of the wanted text, else 0."""

    meaning = "share of answers whose last number is the wanted one"

    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How far a right number may be off, as a share of the wanted one: 0.01 is one percent."""

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade the number in one completion against the wanted one; a text without a number scores 0."""
        predicted, wanted = last_number(completion), last_number(answer)
        right = predicted is not None and wanted is not None and self._near(predicted, wanted)
        return Grade(float(right), {"predicted": _shown(predicted), "wanted": _shown(wanted)})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the share of right numbers and the share of answers without any number."""
        return {
            "accuracy": sum(grade.score for grade in grades) / len(grades),
            "no_number": sum(grade.marks["predicted"] is None for grade in grades) / len(grades),
        }

    def _near(self, predicted: Fraction, wanted: Fraction) -> bool:
        return abs(predicted - wanted) <= abs(wanted) * Fraction(self.tolerance)


def last_number(text: str) -> Fraction | None:
    """Return the number that a text ends with, or None if there is none."""
    _, mark, tail = text.rpartition("####")
    found = list(_NUMBER.finditer(tail))
    if not found:
        return None
    return _value(found[0] if mark else found[-1])


def is_number(text: str) -> bool:
    """Tell whether a text is one number, with currency or percent sign or not, or ends in `#### number`."""
    result = text.rpartition("####")[2].strip().rstrip(_SIGNS)
    return _NUMBER.fullmatch(result.removesuffix(".")) is not None


def _value(match: re.Match[str]) -> Fraction | None:
    digits = _SEPARATORS.sub("", match["top"])
    if len(digits) > _LONGEST:
        return None
    value = Fraction(digits)
    if match["bottom"] and len(match["bottom"]) <= _LONGEST and int(match["bottom"]):
        value /= int(match["bottom"])
    sign = (match["sign"] or "").strip()
    return value if sign in ("", "+") else -value


def _shown(value: Fraction | None) -> str | None:
    if value is None:
        return None
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"
