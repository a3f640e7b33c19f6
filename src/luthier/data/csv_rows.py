"""CSV and TSV to records, after RFC 4180, with any of four delimiters or a declared one.

The standard library's reader is not used: it mends a stray quote by guessing, lets one unclosed
quote swallow the rest of the file, and does not tell on which line a record began.
"""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from luthier.core.errors import DataError, SettingsError
from luthier.data.lines import Line, read_lines
from luthier.data.problems import RowProblem
from luthier.data.records import Broken, Record, Records
from luthier.data.sources import Source

DELIMITERS = (",", ";", "\t", "|")
MOST_RECORD_LINES = 200
_NAMES = {",": "commas", ";": "';'", "\t": "tabs", "|": "'|'"}
_SNIFFED_RECORDS = 50


def csv_rows(source: Source, encoding: str, declared: str | None) -> Records:
    """Read the header and return the records below it; every value is a string.

    Raises DataError when the file has no usable header.
    """
    delimiter = (
        _declared_delimiter(declared) if declared else find_delimiter(list(islice(_texts(source, encoding), 200)))
    )
    parsed = _parsed(read_lines(source, encoding), delimiter)
    header = _header(parsed)
    if header is None:
        return Records("empty", iter(()))
    if isinstance(header, Broken):
        raise DataError(f"{source.name}:{header.line}: the header cannot be read: {header.detail}.")
    columns = tuple(cell.strip() for cell in header[1])
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(f"{source.name}:{header[0]}: the column {twice[0]!r} stands twice in the header; rename one.")
    description = f"CSV with {_NAMES.get(delimiter, repr(delimiter))}, columns {', '.join(columns)}"
    return Records(description, _rows(parsed, columns, delimiter))


def find_delimiter(texts: list[str]) -> str:
    """Return the delimiter that cuts most of the first records into as many cells as the header, comma if none does."""

    def evenness(delimiter: str) -> tuple[float, int]:
        lines = iter([Line(number, text) for number, text in enumerate(texts, start=1)])
        records = list(islice(_parsed(lines, delimiter), _SNIFFED_RECORDS))
        widths = [0 if isinstance(record, Broken) else len(record[1]) for record in records]
        if not widths or widths[0] < 2:
            return 0.0, 0
        return widths.count(widths[0]) / len(widths), widths[0]

    return max(DELIMITERS, key=evenness)


def _declared_delimiter(declared: str) -> str:
    delimiter = {"\\t": "\t", "tab": "\t"}.get(declared, declared)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise SettingsError(f"data.delimiter: expected one character (or tab), found {declared!r}.")
    return delimiter


def _texts(source: Source, encoding: str) -> Iterator[str]:
    """Yield lines up to any damage, which whoever reads the rows meets again."""
    with suppress(RowProblem):
        yield from (line.text for line in read_lines(source, encoding) if isinstance(line, Line))


def _header(parsed: "Iterator[_Cells | Broken]") -> "_Cells | Broken | None":
    try:
        return next(parsed, None)
    except RowProblem as damage:
        return Broken(1, damage.rule, damage.detail)


def _rows(parsed: "Iterator[_Cells | Broken]", columns: tuple[str, ...], delimiter: str) -> Iterator[Record | Broken]:
    for record in parsed:
        if isinstance(record, Broken):
            yield record
            continue
        line, cells = record
        if len(cells) == len(columns):
            if tuple(cell.strip() for cell in cells) == columns:
                yield Broken(line, "repeated-header", "the header stands here again")
            else:
                yield Record(line, dict(zip(columns, cells)))
        else:
            yield Broken(line, "wrong-columns", _width_problem(cells, len(columns), delimiter))


def _width_problem(cells: list[str], expected: int, delimiter: str) -> str:
    counted = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    problem = f"{counted} where the header has {expected}"
    others = [other for other in DELIMITERS if other != delimiter and len(cells[0].split(other)) == expected]
    if len(cells) == 1 and others:
        return f"{problem}; this line seems to be separated by {_NAMES[others[0]]}"
    return problem


_Cells = tuple[int, list[str]]


def _parsed(lines: Iterator[Line | Broken], delimiter: str) -> Iterator[_Cells | Broken]:
    """Cut lines into cells. After a record that cannot be cut, reading goes on at the line below its first."""
    waiting: deque[Line | Broken] = deque()
    while True:
        line = waiting.popleft() if waiting else next(lines, None)
        if line is None:
            return
        if isinstance(line, Broken):
            yield line
            continue
        text = line.text.removesuffix("\r")
        if '"' not in text:
            if text.strip() or delimiter in text:  # a row of empty cells is a row, also where tabs part them
                yield line.number, text.split(delimiter)
            continue
        try:
            cells, used = _quoted_record(line.text, waiting, lines, delimiter)
        except RowProblem as problem:
            yield Broken(line.number, problem.rule, problem.detail)
        else:
            for _ in range(used):
                waiting.popleft()
            yield line.number, cells


def _quoted_record(
    text: str, waiting: deque[Line | Broken], lines: Iterator[Line | Broken], delimiter: str
) -> tuple[list[str], int]:
    """Cut a record that holds quotes; return its cells and how many waiting lines it took."""
    used = 0
    while True:
        cells = _cells(text.removesuffix("\r"), delimiter)
        if cells is not None:
            return cells, used
        opened = "a quote opens here and is not closed"
        while True:
            if used == len(waiting):
                following = next(lines, None)
                if following is None:
                    raise RowProblem("unclosed-quote", f"{opened} before the end of the file")
                waiting.append(following)
            line = waiting[used]
            if isinstance(line, Broken) or used == MOST_RECORD_LINES:
                raise RowProblem("unclosed-quote", f"{opened} within {used} lines")
            text += "\n" + line.text
            used += 1
            if '"' in line.text:
                break


def _cells(text: str, delimiter: str) -> list[str] | None:
    """Cut one record; None if it ends within quotes. Raises RowProblem where text follows a closing quote."""
    cells: list[str] = []
    at = 0
    while True:
        if text[at : at + 1] != '"':
            end = text.find(delimiter, at)
            cells.append(text[at:] if end < 0 else text[at:end])
        else:
            end = _closing_quote(text, at + 1)
            if end < 0:
                return None
            cells.append(text[at + 1 : end].replace('""', '"'))
            end += 1
            if end == len(text):
                return cells
            if text[end] != delimiter:
                rule = "unclosed-quote" if "\n" in text[at:end] else "stray-quote"
                raise RowProblem(
                    rule, f"text follows the closing quote of cell {len(cells)}; a quote within a cell is written twice"
                )
        if end < 0:
            return cells
        at = end + 1


def _closing_quote(text: str, at: int) -> int:
    while True:
        end = text.find('"', at)
        if end < 0 or text[end + 1 : end + 2] != '"':
            return end
        at = end + 2
