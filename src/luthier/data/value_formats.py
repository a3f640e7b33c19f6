"""How dates, times, numbers, amounts and truths are written in the fields of JSON answers.

A field has a family when most of its texts are of one; the ways of writing of that family are then counted.
`03/04/2024` may be April or March: the two are told apart by values that can be one only, and else are one format.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator

from luthier.data.deviations import Deviation
from luthier.data.gathered import shown

_FAMILY_SHARE = 0.8
_FEWEST_VALUES = 10
_LEAST_HOUSE_SHARE = 0.6
_COPIED_SHARE = 0.8
_LONGEST_VALUE = 40
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_AMOUNT = r"-?\d[\d.,' ]*"
_SIGN = "[$\u20ac\u00a3\u00a5\u20b9]"
_SHAPES: dict[str, dict[str, str]] = {
    "truth": {"true/false": "true|false", "yes/no": "yes|no", "y/n": "y|n", "on/off": "on|off", "t/f": "t|f"},
    "date": {
        "2024-01-31": r"\d{4}-\d{2}-\d{2}",
        "2024/01/31": r"\d{4}/\d{1,2}/\d{1,2}",
        "20240131": r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])",
        "31.01.2024": r"\d{1,2}\.\d{1,2}\.\d{2,4}",
        "31/01/2024": r"(?:1[3-9]|2\d|3[01])[/-]\d{1,2}[/-]\d{2,4}",
        "01/31/2024": r"\d{1,2}[/-](?:1[3-9]|2\d|3[01])[/-]\d{2,4}",
        "01/02/2024": r"\d{1,2}[/-]\d{1,2}[/-]\d{2,4}",
        "Jan 31, 2024": rf"{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}",
        "31 Jan 2024": rf"\d{{1,2}}(?:st|nd|rd|th|\.)? {_MONTH},? \d{{4}}",
        "2024-01-31T09:30": r"\d{4}-\d{2}-\d{2}[t ]\d{2}:\d{2}.*",
    },
    "time": {
        "09:30": r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?",
        "9:30 am": r"\d{1,2}(?::[0-5]\d)? ?[ap]\.?m\.?",
        "9h30": r"\d{1,2}h(?:[0-5]\d)?",
    },
    "amount": {
        "$12.50": rf"-?{_SIGN}{_AMOUNT}",
        "$ 12.50": rf"-?{_SIGN} {_AMOUNT}",
        "12.50 $": rf"{_AMOUNT} ?{_SIGN}",
        "12.50 USD": rf"{_AMOUNT} ?(?:[a-z]{{3}}|dollars?|euros?|pounds?)",
        "USD 12.50": rf"[a-z]{{3}} ?{_AMOUNT}",
    },
    "number": {
        "1234": r"[-+]?\d+",
        "1234.5": r"[-+]?\d*\.\d{1,2}|[-+]?\d*\.\d{4,}|[-+]?0?\.\d+",
        "1,234.5": r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?",
        "1.234,5": r"[-+]?\d{1,3}(?:\.\d{3})+,\d+",
        "1234,5": r"[-+]?\d+,\d{1,2}",
        "1 234": r"[-+]?\d{1,3}(?: \d{3})+(?:[.,]\d+)?",
        "12 %": r"[-+]?\d+(?:[.,]\d+)? ?%",
    },
}
_FORMATS = [(family, name, re.compile(shape)) for family, kinds in _SHAPES.items() for name, shape in kinds.items()]
# A whole number goes with any way to write a fraction, and a date that may be either with the one that is clear.
_NEUTRAL = {"1234", "01/02/2024"}
_SOME_DIGIT_OR_TRUTH = re.compile(r"\d|^(?:true|false|yes|no|y|n|on|off|t|f)$")


def value_format(text: str) -> tuple[str, str] | None:
    """Return the family of a value and the way it is written, by an example, or None for anything else."""
    folded = text.strip().casefold()
    if len(folded) > _LONGEST_VALUE or not _SOME_DIGIT_OR_TRUTH.search(folded):
        return None
    return next(((family, name) for family, name, shape in _FORMATS if shape.fullmatch(folded)), None)


class ValueFormats:
    """The formats of one field's texts, with the rows that use each."""

    def __init__(self) -> None:
        self._num_texts = 0
        self._num_copied = 0
        self._rows: dict[str, defaultdict[str, array[int]]] = {}
        self._examples: dict[str, str] = {}

    def add(self, position: int, text: str, is_copied: bool) -> None:
        """Count one text; `is_copied` says that it stands so in the question."""
        self._num_texts += 1
        self._num_copied += is_copied
        found = value_format(text)
        if found is not None:
            family, name = found
            self._rows.setdefault(family, defaultdict(lambda: array("i")))[name].append(position)
            self._examples.setdefault(name, text)

    @property
    def are_copied(self) -> bool:
        """Whether most of the texts stand as they are in the question."""
        return self._num_copied >= _COPIED_SHARE * self._num_texts

    def deviations(self, path: str) -> Iterator[Deviation]:
        """Yield the formats that fewer rows use than the field's usual one; none where values are copied as they stand."""
        if self._num_texts < _FEWEST_VALUES or self.are_copied:
            return
        for family, rows in self._rows.items():
            total = sum(map(len, rows.values()))
            telling = {name: len(found) for name, found in rows.items() if name not in _NEUTRAL}
            if total < _FAMILY_SHARE * self._num_texts or len(telling) < 2:
                continue
            house = max(telling, key=lambda name: telling[name])
            settled = telling[house] >= _LEAST_HOUSE_SHARE * sum(telling.values())
            for name in telling.keys() - {house}:
                yield self._deviation(path, family, name, house, rows[name], settled)

    def _deviation(
        self, path: str, family: str, name: str, house: str, positions: "array[int]", settled: bool
    ) -> Deviation:
        return Deviation(
            kind=f"{family}-format",
            severity="warning" if settled else "info",
            confidence=0.9 if settled else 0.6,
            positions=sorted(set(positions)),
            says=f"writing {path!r} like {shown(self._examples[name])} where most write {shown(self._examples[house])}",
            fix=f"Write every {family} in {path!r} in one way: the model will mix what the rows mix.",
        )
