"""Rows that would have shown the model a held-out question, or nearly the same one.

The split has set them aside already; this says which they are and what they touched. An answer
that stands in its own question is no leak: extraction and labels work that way.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.types import Finding, Row
from luthier.data.deal import BRIDGES, OVERLAPS
from luthier.data.normal import normalized, place, places, question
from luthier.data.split import Assignment

_HELD_OUT_BY = {rule: part for part, rule in OVERLAPS.items()}


@dataclass(frozen=True)
class Check:
    """Find the rows that were set aside because of a row on another side."""

    def find(self, rows: Sequence[Row], assignment: Assignment | None) -> list[Finding]:
        """Return one finding for each row that was touched; before the split there is nothing to find."""
        if assignment is None:
            return []
        aside: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
        for row, rule, touched in zip(rows, assignment.rule, assignment.touched, strict=True):
            if rule is not None and touched is not None:
                aside[touched, rule].append(row)
        return [_finding(rows[touched], rule, taken) for (touched, rule), taken in sorted(aside.items(), key=_by_place)]


def _by_place(item: tuple[tuple[int, str], list[Row]]) -> tuple[int, str]:
    return item[0]


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
