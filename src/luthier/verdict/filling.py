"""Fill fields whose values stand word for word in the question, as a tagger of training answers finds them in new questions.

`data/copied.py` tells strictly which fields can be held to copies; here four copies in five are enough to try.

A field is a path of keys to a text or a number, or to a list of them. What stands in lists of objects is not looked for.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple

from luthier.core.hashing import generator
from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.tagger import Example, Span, Tagger, Word, words

Path = tuple[str, ...]

_MOST_FIELDS = 48
_FEWEST_VALUES = 3
# A field of which one value in five is not in the question is no copy of it.
_COPIED = 0.8
# Words to learn from; they take a quarter of a minute on one core.
_MOST_WORDS = 150_000


class Field(NamedTuple):
    """Where copied values stand in an answer, and in what form: whether one value alone is in a list, and whether several can be."""

    path: Path
    one_in_list: bool
    several: bool
    is_number: bool


class _Leaf(NamedTuple):
    path: Path
    value: JsonValue
    in_list: int
    """Of how many elements the list is in which the value stands; 0 where it stands in none."""


class CopiedFields:
    """Fills the fields that are copies of pieces of the question, as a tagger finds them."""

    def __init__(self, fields: Sequence[Field], tagger: Tagger, holders: Collection[Path]) -> None:
        self.fields = fields
        self._tagger, self._holders = tagger, holders

    def filled(self, neighbour: JsonObject, question: str, hint: str) -> JsonObject:
        """Return an answer like a neighbour's with the copied fields taken from the question instead."""
        answer = deepcopy(neighbour)
        for field in self.fields:
            self._emptied(answer, field.path)
        found = words(question)
        values: dict[int, list[JsonValue]] = {}
        for span in self._tagger.spans(found, hint):
            text = question[found[span.first].start : found[span.last].end]
            value = _number(text) if self.fields[span.field].is_number else text
            if value is not None:
                values.setdefault(span.field, []).append(value)
        for number, of_field in values.items():
            _put(answer, self.fields[number], of_field)
        return answer

    def _emptied(self, answer: JsonObject, path: Path) -> None:
        """Take a field out, and the objects that held nothing else unless every training answer has them."""
        *above, key = path
        holders = [answer]
        for step in above:
            inner = holders[-1].get(step)
            if not isinstance(inner, dict):
                return
            holders.append(inner)
        holders[-1].pop(key, None)
        for depth in range(len(above), 0, -1):
            if holders[depth] or path[:depth] in self._holders:
                return
            del holders[depth - 1][path[depth - 1]]


def fitted(
    questions: Sequence[str], answers: Sequence[JsonObject], hints: Sequence[str], apart: Collection[str], seed: int
) -> CopiedFields | None:
    """Return what fills the copied fields, or None where there are none; top-level keys `apart` are left alone.

    `hints` say what is known of each question beforehand, and will be known of those that are asked.
    """
    told = _drawn(questions, seed)
    rows = [(questions[place], answers[place], hints[place]) for place in told]
    leaves = [[leaf for leaf in _leaves(answer) if leaf.path[0] not in apart] for _, answer, _ in rows]
    places = [_placed(found, of_row) for found, of_row in zip(told.values(), leaves, strict=True)]
    fields = _copied(leaves, places)
    if not fields:
        return None
    number_of = {field.path: number for number, field in enumerate(fields)}
    examples = [
        Example(found, hint, [
            Span(number_of[leaf.path], *place)
            for leaf, place in zip(of_row, of_places, strict=True)
            if place and leaf.path in number_of
        ])
        for found, of_row, of_places, (_, _, hint) in zip(told.values(), leaves, places, rows, strict=True)
    ]  # fmt: skip
    return CopiedFields(fields, Tagger(examples, len(fields), seed), _always_there([answer for _, answer, _ in rows]))


def _drawn(questions: Sequence[str], seed: int) -> dict[int, list[Word]]:
    """Return the words of the questions by their places; of as many as hold 150,000, drawn by the seed, where there are more."""
    drawn: dict[int, list[Word]] = {}
    num_words = 0
    for place in map(int, generator(seed, "copied fields").permutation(len(questions))):
        drawn[place] = words(questions[place])
        num_words += len(drawn[place])
        if num_words >= _MOST_WORDS:
            break
    return {place: drawn[place] for place in sorted(drawn)}


def _copied(leaves: Sequence[Sequence[_Leaf]], places: Sequence[Sequence[tuple[int, int] | None]]) -> list[Field]:
    pairs = [pair for of_row in zip(leaves, places, strict=True) for pair in zip(*of_row, strict=True)]
    total = Counter(leaf.path for leaf, _ in pairs)
    placed = Counter(leaf.path for leaf, place in pairs if place)
    alone = Counter(leaf.path for leaf, _ in pairs if leaf.in_list == 0)
    alone_in_list = Counter(leaf.path for leaf, _ in pairs if leaf.in_list == 1)
    several = {leaf.path for leaf, _ in pairs if leaf.in_list > 1}
    texts = {leaf.path for leaf, _ in pairs if isinstance(leaf.value, str)}
    kept = [
        path
        for path, times in total.most_common()
        if times >= _FEWEST_VALUES and placed[path] >= _COPIED * times
    ]  # fmt: skip
    return [
        Field(path, alone_in_list[path] > alone[path] or not alone[path], path in several, path not in texts)
        for path in kept[:_MOST_FIELDS]
    ]


def _leaves(value: JsonObject, above: Path = ()) -> Iterator[_Leaf]:
    for key, inner in value.items():
        path = (*above, key)
        if isinstance(inner, dict):
            yield from _leaves(inner, path)
        elif isinstance(inner, list):
            yield from (_Leaf(path, item, len(inner)) for item in inner)
        else:
            yield _Leaf(path, inner, 0)


def _placed(found: Sequence[Word], leaves: Sequence[_Leaf]) -> list[tuple[int, int] | None]:
    """Return for each leaf the first and last word of its value in the question; the longest values choose first."""
    texts = [word.text for word in found]
    folded = [text.casefold() for text in texts]
    wanted = [[word.text for word in words(_written(leaf.value))] for leaf in leaves]
    places: list[tuple[int, int] | None] = [None] * len(leaves)
    taken: set[int] = set()
    for number in sorted(range(len(leaves)), key=lambda number: -len(wanted[number])):
        value = wanted[number]
        place = _free(texts, value, taken) or _free(folded, [word.casefold() for word in value], taken)
        if place:
            places[number] = place
            taken.update(range(place[0], place[1] + 1))
    return places


def _free(texts: Sequence[str], value: Sequence[str], taken: set[int]) -> tuple[int, int] | None:
    if not value:
        return None
    for start in range(len(texts) - len(value) + 1):
        end = start + len(value)
        if texts[start] == value[0] and list(texts[start:end]) == value and not taken & {*range(start, end)}:
            return start, end - 1
    return None


def _written(value: JsonValue) -> str:
    """Return a value as a question may hold it; empty for what no question holds word for word."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e300 else None


def _put(answer: JsonObject, field: Field, values: list[JsonValue]) -> None:
    """Write values at their place; of a field that never holds several, the first stays."""
    *above, key = field.path
    holder = answer
    for step in above:
        inner = holder.get(step)
        if not isinstance(inner, dict):
            inner = holder[step] = {}
        holder = inner
    if not field.several:
        values = values[:1]
    holder[key] = values if field.one_in_list or len(values) > 1 else values[0]


def _always_there(answers: Sequence[JsonObject]) -> set[Path]:
    """Return the paths of objects that every answer holds."""
    times = Counter(path for answer in answers for path in _holders(answer))
    return {path for path, count in times.items() if count == len(answers)}


def _holders(value: JsonObject, above: Path = ()) -> Iterator[Path]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield (*above, key)
            yield from _holders(inner, (*above, key))
