"""Rows that say the same twice: the same question and the same answer.

Copies of one source only: a training row that stands in the test file too is a leak, not a copy.
What it cannot see: the same thing said in other words, and rows that are alike but for a few of
them (`near_duplicates` finds those).
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from luthier.core.hashing import text_hash
from luthier.core.types import Finding, Repair, Row
from luthier.data.checking import Context, Dimension
from luthier.data.normal import answer, content_key, normalized, question

_MOST_NAMED = 4
_HASH_DIGITS = 16


class Check:
    """Find copies, as they are (`exact`) or but for case, punctuation and white space (`normalized`)."""

    dimension: ClassVar[Dimension] = "unique"
    effect: ClassVar[str] = (
        "each copy weighs as much as a row of its own: the model sees it again and again and learns it by heart"
    )
    blind: ClassVar[str] = "the same thing said in other words"

    def __init__(self, context: Context) -> None:
        self._context = context
        # 64 bits a row: in a million rows two different texts meet with a chance of 1 in 40 million.
        self._said = array("Q")
        self._content = array("Q")

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Keep two hashes of the row."""
        said = f"{normalized(question(row))}\x1f{normalized(answer(row))}\x1f{self._context.origin_at(position)}"
        self._said.append(_number(text_hash(said)))
        self._content.append(_number(content_key(row)))
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield one finding for each group of copies, in the order of their first rows."""
        for copies in groups_of_equals(np.array(self._said, dtype=np.uint64)):
            yield self._finding(copies)

    def _finding(self, copies: list[int]) -> Finding:
        places = [self._context.place_at(position) for position in copies]
        contents = [self._content[position] for position in copies]
        exact = len(set(contents)) == 1
        likeness = "are the same" if exact else "differ only in case, punctuation, white space or context"
        more = f" and {len(copies) - _MOST_NAMED} more" if len(copies) > _MOST_NAMED else ""
        seen: set[int] = set()
        repairs: list[Repair] = []
        for place, content in zip(places, contents):
            if seen:  # the first of the group stays
                repairs.append(Repair(place.id, "drop", safe=content in seen))
            seen.add(content)
        return Finding(
            check="duplicates",
            kind="exact" if exact else "normalized",
            severity="warning",
            confidence=1.0 if exact else 0.95,
            rows=tuple(place.id for place in places),
            detail=f"{len(copies)} rows {likeness}: {', '.join(map(str, places[:_MOST_NAMED]))}{more}.",
            fix=f"Keep {places[0]} and drop the others, unless the question should weigh more.",
            repairs=tuple(repairs),
        )


def groups_of_equals(keys_N: np.ndarray) -> Iterator[list[int]]:
    """Yield the positions of each key that stands more than once, in the order of the first of them."""
    order = np.argsort(keys_N, kind="stable")
    ranked = keys_N[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.array([], int)
    ends = np.append(starts[1:], len(ranked))
    groups = [order[start:end].tolist() for start, end in zip(starts, ends) if end - start > 1]
    yield from sorted(groups)


def _number(digest: str) -> int:
    return int(digest[:_HASH_DIGITS], 16)
