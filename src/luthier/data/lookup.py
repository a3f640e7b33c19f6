"""The rows of several stored files as one sequence: streamed in order, or fetched by position."""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from luthier.core.types import Row
from luthier.data.checking import Place
from luthier.data.store import read_stored, stored_row

_MOST_CACHED_BYTES = 256 << 20


class Lookup:
    """Positions count from 0 over all `files`, in their order; the row groups that were used last stay in memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._open = [pq.ParquetFile(file) for file in files]
        self._groups = [
            (number, group) for number, file in enumerate(self._open) for group in range(file.num_row_groups)
        ]
        self._starts = [0]
        for number, group in self._groups:
            self._starts.append(self._starts[-1] + self._open[number].metadata.row_group(group).num_rows)
        self._cached: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(read_stored(file) for file in self._files)

    @property
    def counts(self) -> list[int]:
        """How many rows each file holds."""
        return [file.metadata.num_rows for file in self._open]

    def row_at(self, position: int) -> Row:
        """Return the row at a position."""
        index = bisect_right(self._starts, position) - 1
        (stored,) = self._group(index).slice(position - self._starts[index], 1).to_pylist()
        return stored_row(stored)

    def places(self) -> "Places":
        """Return where every row stands, all in memory: about 100 bytes a row."""
        places = Places()
        for file in self._open:
            for batch in file.iter_batches(columns=["id", "file", "line"]):
                columns = batch.to_pydict()
                for id, name, line in zip(columns["id"], columns["file"], columns["line"]):
                    places.add(id, name, line)
        return places

    def close(self) -> None:
        """Close the files."""
        for file in self._open:
            file.close()

    def _group(self, index: int) -> pa.Table:
        table = self._cached.pop(index, None)
        if table is None:
            number, group = self._groups[index]
            table = self._open[number].read_row_group(group)
        self._cached[index] = table
        while len(self._cached) > 1 and sum(table.nbytes for table in self._cached.values()) > _MOST_CACHED_BYTES:
            self._cached.popitem(last=False)
        return table


class Places(Sequence[Place]):
    """Where rows stand, by columns."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._files: list[str] = []
        self._file_of = array("i")
        self._lines = array("q")
        self._number: dict[str, int] = {}

    def add(self, id: str, file: str, line: int) -> None:
        """Append the place of a row."""
        number = self._number.setdefault(file, len(self._files))
        if number == len(self._files):
            self._files.append(file)
        self._ids.append(id)
        self._file_of.append(number)
        self._lines.append(line)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, position: int) -> Place:
        return Place(self._ids[position], self._files[self._file_of[position]], self._lines[position])
