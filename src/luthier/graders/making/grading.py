"""Grade many answers: one after the other, or several at a time where the grader waits for somebody else."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol, runtime_checkable

from luthier.core.types import Grade, Grader


class Graded(NamedTuple):
    """What a grader looks at."""

    prompt: str
    completion: str
    answer: str


@runtime_checkable
class Remote(Protocol):
    """A grader that sends answers elsewhere: several at the same time, and the user is told where."""

    @property
    def at_once(self) -> int:
        """How many answers are sent at the same time."""
        ...

    @property
    def sends_to(self) -> str:
        """The model and its address."""
        ...


def grade_all(grader: Grader, rows: Sequence[Graded]) -> Iterator[Grade]:
    """Yield the grades in the order of the rows; after an error no further answer is sent."""
    if not isinstance(grader, Remote) or not grader.sends_to:
        yield from (grader.grade(*row) for row in rows)
        return

    def grade(row: Graded) -> Grade:
        return grader.grade(*row)

    pool = ThreadPoolExecutor(grader.at_once)
    try:
        yield from pool.map(grade, rows)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def destination(grader: Grader) -> str:
    """Return where a grader sends answers to; empty where they stay here."""
    return grader.sends_to if isinstance(grader, Remote) else ""
