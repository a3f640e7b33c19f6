"""Rows that say the same twice: the same question and the same answer.

They stay in training, where each copy weighs as much as a row of its own; the finding says how many.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.types import Finding, Row
from luthier.data.normal import answer, content_key, normalized, places, question
from luthier.data.split import Assignment


@dataclass(frozen=True)
class Check:
    """Find copies, as they are (`exact`) or but for case, punctuation and white space (`normalized`)."""

    def find(self, rows: Sequence[Row], assignment: Assignment | None) -> list[Finding]:
        """Return one finding for each group of copies, in the order of their first rows."""
        groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            groups[normalized(question(row)), normalized(answer(row))].append(row)
        return [_finding(copies) for copies in groups.values() if len(copies) > 1]


def _finding(copies: Sequence[Row]) -> Finding:
    exact = len({content_key(row) for row in copies}) == 1
    likeness = "are the same" if exact else "differ only in case, punctuation, white space or context"
    return Finding(
        check="duplicates",
        kind="exact" if exact else "normalized",
        severity="info",
        confidence=1.0 if exact else 0.95,
        rows=tuple(row.id for row in copies),
        detail=f"{len(copies)} rows {likeness}: {places(copies)}.",
        fix=f"Keep {places(copies[:1])} and drop the others, unless the question should weigh more.",
    )
