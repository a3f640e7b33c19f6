"""Rows that would have shown the model a held-out question, or nearly the same one.

The split has set them aside already; this says which they are and what they touched. An answer
that stands in its own question is no leak: extraction and labels work that way.
What it cannot see: a question that was leaked in other words.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from luthier.core.types import Finding, Row
from luthier.data.checking import Context, Dimension
from luthier.data.deal import BRIDGES, OVERLAPS
from luthier.data.normal import normalized, place, places, question

_HELD_OUT_BY = {rule: part for part, rule in OVERLAPS.items()}


class Check:
    """Find the rows that were set aside because of a row on another side; before the split there is nothing to find."""

    dimension: ClassVar[Dimension] = "leak_free"
    effect: ClassVar[str] = "a model that has seen a test question is praised for its memory"
    blind: ClassVar[str] = "a question that was leaked in other words"

    def __init__(self, context: Context) -> None:
        self._context = context

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Nothing: the split has looked already."""
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield one finding for each row that was touched."""
        assignment = self._context.assignment
        if assignment is None:
            return
        aside: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for position, (rule, touched) in enumerate(zip(assignment.rule, assignment.touched, strict=True)):
            if rule is not None and touched is not None:
                aside[touched, rule].append(position)
        for (touched, rule), taken in sorted(aside.items()):
            rows = [self._context.row_at(position) for position in taken]
            yield _finding(self._context.row_at(touched), rule, rows)


def _finding(touched: Row, rule: str, taken: Sequence[Row]) -> Finding:
    rows = tuple(row.id for row in (touched, *taken))
    plural = "rows are" if len(taken) > 1 else "row is"
    if rule == BRIDGES:
        like = f"for likeness to rows in two parts, {place(touched)} among them"
        detail = f"{len(taken)} {plural} set aside {like}: {places(taken)}."
        return Finding(
            "leaks", "bridge", "info", 1.0, rows, detail, "Nothing needs to be done; the rows are in no part."
        )
    part = _HELD_OUT_BY[rule]
    same = all(normalized(question(row)) == normalized(question(touched)) for row in taken)
    like = "asks the same as" if same else "asks nearly the same as, or shares its group with,"
    detail = f"the {part} row {place(touched)} {like} {places(taken)}; {len(taken)} {plural} taken out of training."
    fix = f"Nothing needs to be done, the score is honest. To train on the question, take it out of the {part} file."
    return Finding("leaks", "overlap", "warning", 1.0 if same else 0.9, rows, detail, fix)
