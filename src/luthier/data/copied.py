"""The form of answers that extract: which fields of a JSON answer are copies of words of the question.

It is learned from (question, answer) pairs. `generate/spans.py` holds answers to it, `data/swaps.py` makes rows from it.
What it cannot see: a text that is a copy by chance alone counts as one.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from luthier.core.errors import DataError
from luthier.core.types import JsonValue

COPIED = 0.99
"""The share of a field's training values that must be copies, so that the field counts as copied."""

PIECE = re.compile(r"\w+|\s|[^\w\s]")
"""What a copy is made of, whole: words, blanks, marks."""

_MOST_LABELS = 500
_FEWEST_OF_A_LABEL = 3
_DEEPEST = 8
_NEEDED = "generate.constrain=spans and train.swaps need answers that extract. Leave them out."
_STYLES = ((", ", ": "), (",", ":"))


@dataclass(slots=True)
class Form:
    """What stands at one place of the answers: how many values of each kind were seen there, and what lies below them."""

    values: int = 0
    texts: Counter[str] = field(default_factory=Counter[str])
    copies: int = 0
    others: set[str] = field(default_factory=set[str])
    objects: int = 0
    empty: bool = False
    keys: dict[str, "Form"] = field(default_factory=dict[str, "Form"])
    items: "Form | None" = None

    def see(self, value: JsonValue, question: str, depth: int = 0) -> None:
        """Take one value of a training answer in."""
        self.values += 1
        if depth > _DEEPEST:
            raise DataError(f"the training answers are nested deeper than {_DEEPEST}; {_NEEDED}")
        match value:
            case str():
                self.texts[value] += 1
                self.copies += is_copy(value, question)
            case dict():
                self.objects += 1
                self.empty |= not value
                for key, inner in value.items():
                    self.keys.setdefault(key, Form()).see(inner, question, depth + 1)
            case list():
                self.items = self.items or Form()
                self.empty |= not value
                for inner in value:
                    self.items.see(inner, question, depth + 1)
            case None:
                self.others.add("null")
            case bool():
                self.others.add("boolean")
            case _:
                self.others.add("number")

    @property
    def is_copied(self) -> bool:
        """Tell whether the texts here are copies of words of the question."""
        return self.copies >= COPIED * self.texts.total()

    @property
    def is_label(self) -> bool:
        """Tell whether the texts here are some of a few, each of which comes back."""
        rare = sum(1 for count in self.texts.values() if count < _FEWEST_OF_A_LABEL)
        return len(self.texts) <= _MOST_LABELS and rare <= 0.01 * self.texts.total()


@dataclass(frozen=True, slots=True)
class Extraction:
    """The form of a training set's answers, and the marks that they are written with."""

    form: Form
    comma: str
    colon: str

    def copied(self) -> list[str]:
        """Return the paths of the fields that are held to copies, such as `slots.city`."""
        return sorted(set(_copied(self.form, "")))


def learned(pairs: Iterable[tuple[str, str]]) -> Extraction:
    """Learn the form from (question, answer) pairs; raise DataError where the answers are no objects, or nothing is copied."""
    form = Form()
    written: Counter[tuple[str, str]] = Counter()
    for question, answer in pairs:
        value = _object(answer)
        form.see(value, question)
        written.update(style for style in _STYLES if dumped(value, *style) == answer)
    style, times = written.most_common(1)[0] if written else (_STYLES[0], 0)
    number = form.values
    if times < number:
        raise DataError(
            f"{number - times:,} of {number:,} training answers are not written as JSON on one line with {dumped({'a': 1, 'b': 2}, *style)} "
            f"as its marks; {_NEEDED} Name the columns with --output, and Luthier writes them so."
        )
    extraction = Extraction(form, *style)
    if not extraction.copied():
        raise DataError(
            f"no field of the training answers holds copies of the question ({COPIED:.0%} of a field's values must be); {_NEEDED}"
        )
    return extraction


def is_copy(text: str, question: str) -> bool:
    """Tell whether a text is made of whole neighbouring pieces (words, marks, blanks) of the question."""
    return bool(whole(text, question))


def whole(text: str, question: str) -> list[int]:
    """Return the places of the question at which the text stands, made of whole pieces."""
    places: list[int] = []
    place = question.find(text) if text else -1
    while place >= 0:
        if _at_edge(question, place) and _at_edge(question, place + len(text)):
            places.append(place)
        place = question.find(text, place + 1)
    return places


def dumped(value: JsonValue, comma: str = ", ", colon: str = ": ") -> str:
    """Write a value as training answers are written, on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(comma, colon))


def _object(answer: str) -> JsonValue:
    try:
        value = json.loads(answer)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise DataError(f"the training answer {answer[:60]!r} is no JSON object; {_NEEDED}")
    return value


def _copied(form: Form, path: str) -> Iterable[str]:
    if form.texts and form.is_copied:
        yield path
    if form.items is not None:
        yield from _copied(form.items, path)
    for key, inner in form.keys.items():
        yield from _copied(inner, f"{path}.{key}".lstrip("."))


def _at_edge(question: str, place: int) -> bool:
    """Tell whether a piece begins or ends at the place."""
    return place in (0, len(question)) or not (_word(question[place - 1]) and _word(question[place]))


def _word(char: str) -> bool:
    return char.isalnum() or char == "_"
