"""What a check is: it sees every row once, in order, and then says what it found.

A check is a file in `data/checks/` with a class `Check`. It is made anew for every look at the data,
keeps what it needs of each row (hashes, counts, short texts: never the rows, of which there may be
a million) and reports each finding once, from `see` or from `end`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from luthier.config.settings import CheckSettings
from luthier.core.types import Content, Finding, Rejected, Row
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

    `read` yields all rows again, in the same order; `text` returns where a row stands and what it is
    when only its position was kept. Without a split `assignment` is None, without a model `measure` is.
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


class Repairing(Protocol):
    """What a check adds that can mend rows by itself: `--fix` applies it to the rows that its findings name as safe to fix."""

    def repair(self, content: Content) -> Content:
        """Return the content mended; mending twice changes nothing more."""
        ...
