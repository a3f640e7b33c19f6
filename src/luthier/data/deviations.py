"""What departs from the way most answers are written: which rows, in words, and how they could be mended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.core.types import Content, Finding, Repair
from luthier.data.checking import Context
from luthier.data.gathered import MOST_EXAMPLES

Mend = Callable[[Content], Content]


@dataclass(frozen=True)
class Deviation:
    """Rows, by their positions, that depart in one way.

    `says` follows the number of rows, one or many: "3 rows <lacking the key ...>: a.jsonl:1, ...". `mend` makes a row's content right; only where
    it is `safe` does that change nothing but white space.
    """

    kind: str
    severity: Literal["info", "warning"]
    confidence: float
    positions: Sequence[int]
    says: str
    fix: str
    mend: Mend | None = None
    safe: bool = False


def deviation_finding(check: str, deviation: Deviation, context: Context) -> Finding:
    """Return the finding of a deviation, with a repair for each row that can be mended."""
    places = [context.place_at(position) for position in deviation.positions]
    counted = "1 row" if len(places) == 1 else f"{len(places):,} rows"
    more = len(places) - MOST_EXAMPLES
    named = ", ".join(map(str, places[:MOST_EXAMPLES])) + (f" and {more:,} more" if more > 0 else "")
    return Finding(
        check=check,
        kind=deviation.kind,
        severity=deviation.severity,
        confidence=deviation.confidence,
        rows=tuple(place.id for place in places),
        detail=f"{counted} {deviation.says}: {named}.",
        fix=deviation.fix,
        repairs=_repairs(deviation, context),
    )


def _repairs(deviation: Deviation, context: Context) -> tuple[Repair, ...]:
    if deviation.mend is None:
        return ()
    rows = [context.row_at(position) for position in deviation.positions]
    return tuple(Repair(row.id, "fix", deviation.safe, deviation.mend(row.content)) for row in rows)
