"""Values in JSON answers that should stand in the question and do not, and values in it that the answer leaves out.

A field is extracted where at least 95 % of its values stand in their questions, normalized; enumerated and generated
fields are told by that share and left alone. The values of an extracted field that do not stand in the question are
suspect. And where nearly the same question fills a field that a row leaves empty, though the value stands there too,
one of the two rows is wrong; for that the clusters of the split are needed.

What it cannot see: a value from the wrong place in the question, values that are always put into other words or
converted, and a field left out in every like row.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from luthier.core.types import Conversation, Finding, JsonObject, Row
from luthier.data.answers_kind import as_json_object, scalars
from luthier.data.checking import Context, Dimension
from luthier.data.gathered import shown
from luthier.data.normal import answer, normalized, place, question

_EXTRACTED_SHARE = 0.95
_FEWEST_VALUES = 20
_PATIENCE = 200
_MOST_FIELDS = 200
_MOST_OF_CLUSTER = 20


class Check:
    """Compare the values of extracted fields with the questions they should come from."""

    dimension: ClassVar[Dimension] = "consistent"
    effect: ClassVar[str] = "values from nowhere teach a model to invent, fields left out teach it to overlook"
    blind: ClassVar[str] = "values from the wrong place, values always reworded, fields that all like rows leave out"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._fields: dict[str, _Field] = {}
        self._positions = array("i")

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Look for each value of a JSON answer in the question."""
        value = _object(row)
        if value is not None:
            self._positions.append(position)
            values = [(path, text) for path, text in _values(value) if self._is_open(path)]
            asked = _padded(question(row)) if values else ""
            for path, text in values:
                self._fields.setdefault(path, _Field()).add(position, text in asked)
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield one finding for each suspect value, and one for each field left out."""
        extracted = {path: field for path, field in self._fields.items() if field.is_extracted}
        for path, field in extracted.items():
            for position in field.absent:
                yield _absent(path, self._context.row_at(position), field.share)
        for rows in self._clusters() if extracted else ():
            yield from _left_out(rows, extracted.keys())

    def _is_open(self, path: str) -> bool:
        """Tell whether it is worth looking: not at fields that are clearly made up, nor at endlessly many."""
        field = self._fields.get(path)
        return len(self._fields) < _MOST_FIELDS if field is None else not field.is_made_up

    def _clusters(self) -> Iterator[list[Row]]:
        """Yield the rows with JSON answers that the split found alike, the first few of each cluster."""
        if self._context.assignment is None:
            return
        members: defaultdict[int, list[int]] = defaultdict(list)
        cluster_N = self._context.assignment.cluster[np.frombuffer(self._positions, dtype=np.int32)]
        for position, cluster in zip(self._positions, cluster_N.tolist()):
            if cluster >= 0:
                members[cluster].append(position)
        for positions in members.values():
            if len(positions) > 1:
                yield [self._context.row_at(position) for position in positions[:_MOST_OF_CLUSTER]]


class _Field:
    """How many values of a field stand in their questions, and the rows of those that do not."""

    def __init__(self) -> None:
        self.absent = array("i")
        self._num_values = 0
        self._num_found = 0

    def add(self, position: int, found: bool) -> None:
        self._num_values += 1
        self._num_found += found
        if not found:
            self.absent.append(position)

    @property
    def is_made_up(self) -> bool:
        """Whether so many values were seen and so few found that the field is not extracted."""
        return self._num_values >= _PATIENCE and 2 * self._num_found < self._num_values

    @property
    def share(self) -> float:
        return self._num_found / self._num_values

    @property
    def is_extracted(self) -> bool:
        return self._num_values >= _FEWEST_VALUES and self.share >= _EXTRACTED_SHARE


def _object(row: Row) -> JsonObject | None:
    return as_json_object(answer(row)) if isinstance(row.content, Conversation) else None


def _values(value: JsonObject) -> Iterator[tuple[str, str]]:
    """Yield the texts and numbers of an object, padded, so that only whole words are found."""
    for path, inner in scalars(value):
        if isinstance(inner, str | int | float) and not isinstance(inner, bool):
            text = _padded(str(inner))
            if text.strip():
                yield path, text


def _padded(text: str) -> str:
    return f" {normalized(text)} "


def _absent(path: str, row: Row, share: float) -> Finding:
    value = ", ".join(str(inner) for name, inner in scalars(_object(row) or {}) if name == path)
    return Finding(
        check="extraction",
        kind="value-not-in-question",
        severity="warning",
        confidence=0.7,
        rows=(row.id,),
        detail=f"{place(row)} has {shown(value)} in {path!r}, which does not stand in its question as {share:.1%} of the "
        f"values of this field do: {shown(question(row))}.",
        fix="Write the value as the question has it, or leave it out if it is not asked.",
    )


def _left_out(rows: list[Row], extracted: Iterable[str]) -> Iterator[Finding]:
    """Yield the extracted fields that a row lacks, though a like row has them and the value stands in both questions."""
    values = [list(_values(_object(row) or {})) for row in rows]
    asked = [_padded(question(row)) for row in rows]
    told: set[tuple[int, str]] = set()
    for giver, given in enumerate(values):
        for path, text in given:
            for taker in range(len(rows)):
                lacks = path not in dict(values[taker]) and not any(text in own for _, own in values[taker])
                if path in extracted and lacks and text in asked[taker] and (taker, path) not in told:
                    told.add((taker, path))
                    yield _missing(path, text.strip(), rows[taker], rows[giver])


def _missing(path: str, text: str, row: Row, giver: Row) -> Finding:
    return Finding(
        check="extraction",
        kind="field-left-out",
        severity="warning",
        confidence=0.6,
        rows=(row.id, giver.id),
        detail=f"{place(row)} leaves {path!r} out, though {shown(text)} stands in its question and {place(giver)}, which "
        f"asks nearly the same, fills it: {shown(question(row))}.",
        fix=f"Fill {path!r} in both rows or in neither.",
    )
