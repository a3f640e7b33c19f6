"""Rows with the same fault, gathered under one finding: a page of findings must stay a page."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from luthier.core.types import Content, Finding, Repair, Row
from luthier.data.normal import place
from luthier.data.private_spans import private_spans

MOST_EXAMPLES = 3
_MOST_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """What all findings of one kind say.

    `says` follows the number of rows and begins with a verb in the plural: "3 rows <hold a key>: a.jsonl:1".
    """

    severity: Literal["info", "warning", "error"]
    confidence: float
    says: str
    fix: str


@dataclass(slots=True)
class _Group:
    rows: list[str] = field(default_factory=list[str])
    repairs: list[Repair] = field(default_factory=list[Repair])
    examples: list[str] = field(default_factory=list[str])


class Gathered:
    """Row ids by kind of fault, with the first few places; of the rows themselves nothing is kept."""

    def __init__(self) -> None:
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)

    def add(self, kind: str, row: Row, example: str = "", repair: Repair | None = None) -> None:
        """Enter a row under a kind; `example` are the few words that show the fault."""
        group = self._groups[kind]
        group.rows.append(row.id)
        if repair is not None:
            group.repairs.append(repair)
        if len(group.examples) < MOST_EXAMPLES:
            group.examples.append(f"{place(row)} ({example})" if example else place(row))

    def count(self, kind: str) -> int:
        """Return how many rows are under a kind."""
        return len(self._groups[kind].rows) if kind in self._groups else 0

    def findings(self, check: str, faults: Mapping[str, Fault]) -> Iterator[Finding]:
        """Yield one finding for each kind that has rows, in the order of `faults`."""
        for kind, fault in faults.items():
            if not self.count(kind):
                continue
            group = self._groups[kind]
            detail = f"{_said(len(group.rows), fault.says)}: {_listed(group)}."
            yield Finding(
                check,
                kind,
                fault.severity,
                fault.confidence,
                tuple(group.rows),
                detail,
                fault.fix,
                tuple(group.repairs),
            )


def shown(text: str) -> str:
    """Return a text as an example: on one line, cut where it is long, control characters escaped, private data left out."""
    line = " ".join(covered(text[: 4 * _MOST_CHARACTERS]).split())
    line = line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 3] + "..."
    return "'" + "".join(letter if letter.isprintable() else _escaped(letter) for letter in line) + "'"


def covered(text: str) -> str:
    """Return a text with dots for private data: findings are passed on to people who should not see it."""
    out, end = "", 0
    for span in private_spans(text):
        out, end = f"{out}{text[end : span.start]}...", span.end
    return out + text[end:]


def safe_fix(row: Row, content: Content | None = None) -> Repair:
    """Return a fix that needs nobody's word; without content the check's own `repair` makes it."""
    return Repair(row.id, "fix", safe=True, content=content)


def _escaped(letter: str) -> str:
    return f"<U+{ord(letter):04X}>"


def _said(number: int, says: str) -> str:
    if number > 1:
        return f"{number:,} rows {says}"
    verb, _, rest = says.partition(" ")
    return f"1 row {'has' if verb == 'have' else verb + 's'} {rest}"


def _listed(group: _Group) -> str:
    more = len(group.rows) - len(group.examples)
    return ", ".join(group.examples) + (f" and {more:,} more" if more else "")
