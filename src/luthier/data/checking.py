"""What a check is: it sees every row once, in order, and then says what it found.

A check is a file in `data/checks/` with a class `Check`. It is made anew for every look at the data,
keeps what it needs of each row (hashes, counts, short texts: never the rows, of which there may be
a million) and reports each finding once, from `see` or from `end`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

from luthier.config.settings import CheckSettings
from luthier.core.types import Content, Finding, Rejected, Row
from luthier.data.cluster_map import ClusterMap
from luthier.data.deal import Origin
from luthier.data.split import Assignment

Dimension = Literal["valid", "consistent", "unique", "varied", "private", "leak_free", "fits"]
DIMENSIONS: tuple[Dimension, ...] = ("valid", "consistent", "unique", "varied", "private", "leak_free", "fits")


@dataclass(frozen=True)
class RowLength:
    """A row's length under the model's tokenizer: all its tokens, those trained, those cut off, and why it has none."""

    tokens: int
    trained: int
    lost: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Context:
    """What checks may know beyond the rows.

    `read` yields all rows again, in the same order: those of the data, then of the test file, then of the
    validation file; `num_of` says how many of each. `row_at` fetches one again when only its position was kept,
    `places` are ids and places without the rows. Without a split `assignment` is None, without a model `measure` is.
    """

    settings: CheckSettings
    num_rows: int
    read: Callable[[], Iterator[Row]]
    row_at: Callable[[int], Row]
    rejected: Sequence[Rejected] = ()
    assignment: Assignment | None = None
    measure: Callable[[Sequence[Row]], Sequence[RowLength]] | None = None
    context_length: int | None = None
    benchmarks: tuple[str, ...] = field(default=())
    seed: int = 0
    places: "Sequence[Place] | None" = None
    num_of: Mapping[Origin, int] = field(default_factory=dict)

    def place_at(self, position: int) -> "Place":
        """Return the id of a row and where it stands, without fetching the row where that can be avoided."""
        return place_of(self.row_at(position)) if self.places is None else self.places[position]

    def origin_at(self, position: int) -> Origin:
        """Return the source of a row: the data, or the user's own test or validation file."""
        start = 0
        for origin, count in self.num_of.items():
            start += count
            if position < start:
                return origin
        return "data"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands."""

    id: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def place_of(row: Row | Rejected) -> Place:
    """Return where a row stands."""
    return Place(row.id, row.file, row.line)


def context_of(
    rows: Sequence[Row], settings: CheckSettings | None = None, assignment: Assignment | None = None
) -> Context:
    """Return the context for rows that are all in memory; without a split they are all of the data."""
    return Context(
        settings or CheckSettings(), len(rows), lambda: iter(rows), rows.__getitem__, (), assignment,
        num_of={"data": len(rows)},
    )  # fmt: skip


class Check(Protocol):
    """One way in which data can be wrong. `effect` says what it does to a model, `blind` what the check cannot see."""

    dimension: ClassVar[Dimension]
    effect: ClassVar[str]
    blind: ClassVar[str]

    def __init__(self, context: Context) -> None: ...

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Look at the next row; `position` counts from 0 over all sources."""
        ...

    def end(self) -> Iterable[Finding]:
        """Say what only all rows together show."""
        ...


@runtime_checkable
class Charting(Protocol):
    """What a check adds that has a map of the rows for the report."""

    def cluster_map(self) -> ClusterMap | None:
        """Return the map once `end` has been through; None where there is nothing to draw."""
        ...


@runtime_checkable
class Repairing(Protocol):
    """What a check adds that can mend rows by itself: `--fix` applies it to the rows that its findings name as safe to fix."""

    def repair(self, content: Content) -> Content:
        """Return the content mended; mending twice changes nothing more."""
        ...
