"""Which rows ask what a public benchmark asks: the same, or nearly the same by exact search.

The benchmarks are held in memory; the rows come in a stream and are compared a batch at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.config.settings import DataSettings
from luthier.core.errors import DataError
from luthier.core.types import Row
from luthier.data.crossing import crossing_pairs
from luthier.data.normal import normalized, place, question
from luthier.data.read import read
from luthier.data.shingles import Form, ShingleSets, find_form, shingle_sets

_ROWS_A_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Match:
    """A row, by its position, that asks what stands at `asked_at` in the file `path` of a benchmark."""

    position: int
    path: str
    asked_at: str
    same: bool


class Benchmarks:
    """The questions of benchmark files, looked up in batches of rows."""

    def __init__(self, paths: Iterable[str], threshold: float) -> None:
        self._threshold = threshold
        self._origin: dict[str, tuple[str, str]] = {}
        for path in paths:
            for row in _rows(path):
                self._origin.setdefault(normalized(question(row)), (path, place(row)))
        self._questions = list(self._origin)
        self._sets = shingle_sets(self._questions, form=set())
        self._form: Form | None = None
        self._positions: list[int] = []
        self._texts: list[str] = []

    def add(self, position: int, text: str) -> Iterator[Match]:
        """Take a row's normalized question; yield the matches of a batch when it is full."""
        self._positions.append(position)
        self._texts.append(text)
        if len(self._texts) >= max(_ROWS_A_BATCH, len(self._questions)):
            yield from self.flush()

    def flush(self) -> Iterator[Match]:
        """Yield the matches of what was taken and not yet compared."""
        if self._form is None:
            # Rows may be filled into an instruction that the benchmark does not have.
            self._form = find_form(self._texts)
        near = self._near()
        for place_, (position, text) in enumerate(zip(self._positions, self._texts)):
            asked = text if text in self._origin else near.get(place_)
            if asked is not None:
                yield Match(position, *self._origin[asked], same=text == asked)
        self._positions, self._texts = [], []

    def _near(self) -> dict[int, str]:
        """Return the benchmark question that each near row of the batch resembles."""
        found: dict[int, str] = {}
        for asked, rows in zip(self._sets, shingle_sets(self._texts, self._form)):
            for row, number in _alike(asked, rows, self._threshold):
                found.setdefault(row, self._questions[number])
        return found


def _alike(asked: ShingleSets, rows: ShingleSets, threshold: float) -> Iterator[tuple[int, int]]:
    num_asked = len(asked.members_N)
    both = asked.followed_by(rows)
    left_P, right_P = crossing_pairs(both, np.arange(num_asked), np.arange(num_asked, len(both.members_N)), threshold)
    return zip(both.members_N[right_P].tolist(), both.members_N[left_P].tolist())


def _rows(path: str) -> Sequence[Row]:
    try:
        rows = [row for row in read(path, DataSettings(path=path), lambda _: None) if isinstance(row, Row)]
    except DataError as error:
        raise DataError(
            f"check.benchmarks: {path} cannot be read as questions: {error} "
            "Give files whose rows are chats, or have a question beside an answer."
        ) from error
    if not rows:
        raise DataError(f"check.benchmarks: {path} holds no usable row; leave it out or give the right file.")
    return rows
