"""The text of single lines of files that could not be parsed, fetched in the order in which they stand."""

from collections.abc import Iterator

from luthier.config.settings import DataSettings
from luthier.data.kinds import find_kind
from luthier.data.lines import Line, read_lines
from luthier.data.problems import RowProblem
from luthier.data.records import Broken
from luthier.data.sources import Source, find_sources


class RawLines:
    """Lines of the files that `path` means; asked for in ascending order, file by file, every file is read once."""

    def __init__(self, path: str, settings: DataSettings) -> None:
        self._sources = {source.name: source for source in find_sources(path)}
        self._encoding = settings.encoding
        self._file: str | None = None
        self._lines: Iterator[Line | Broken] = iter(())

    def text_at(self, file: str, line: int) -> str | None:
        """Return a line of a JSON lines or CSV file; None where it is no text or the file is of another kind."""
        if file != self._file:
            self._file, self._lines = file, self._opened(self._sources[file])
        try:
            found = next((one for one in self._lines if _number(one) == line), None)
        except RowProblem:  # the archive is damaged from here on
            return None
        return found.text if isinstance(found, Line) else None

    def _opened(self, source: Source) -> Iterator[Line | Broken]:
        kind, encoding = find_kind(source, self._encoding)
        return read_lines(source, encoding) if kind in ("jsonl", "csv") else iter(())


def _number(line: Line | Broken) -> int:
    return line.number if isinstance(line, Line) else line.line
