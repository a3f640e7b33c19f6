"""Input of any kind to rows: every record comes out once, as a `Row` or as a `Rejected` with its reason.

Streaming: what is held is the first hundred rows of a file, fewer where they are very long, from which its format is told.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from luthier.config.settings import DataSettings
from luthier.core import parts
from luthier.core.errors import DataError
from luthier.core.hashing import canonical_json
from luthier.core.types import Content, Conversation, JsonObject, Message, Preference, Rejected, Row, Text
from luthier.data.columns import Interpretation, ensure_column, guessed_columns, named_columns, no_usable_column
from luthier.data.csv_rows import csv_rows
from luthier.data.hub_rows import PREFIX as HUB_PREFIX
from luthier.data.hub_rows import hub_rows
from luthier.data.json_rows import as_object, ensure_whole_characters, json_document, json_lines
from luthier.data.kinds import find_kind, name_kind
from luthier.data.messages import value_text
from luthier.data.parquet_rows import parquet_rows
from luthier.data.problems import RowProblem
from luthier.data.records import Broken, Record, Records
from luthier.data.sources import Source, find_sources
from luthier.data.text_rows import text_rows
from luthier.data.unread_keys import UnreadKeys

FORMATS = "luthier.data.formats"
HEAD_ROWS = 100
MOST_BROKEN_HEAD = 10_000
_HEAD_CHARACTERS = 64 << 20

Announce = Callable[[str], None]
ReadRecord = tuple[Row | Rejected, JsonObject | None]
_Numbered = tuple[str, int, Record | Broken]


def read(path: str, settings: DataSettings, announce: Announce) -> Iterator[Row | Rejected]:
    """Yield every record of a file, folder, glob or `hub:<id>`, in order.

    `announce` is told what was found in each file and why. Raises DataError when a file cannot be
    used as a whole, SettingsError when a setting does not fit.
    """
    return (row for row, _ in read_with_records(path, settings, announce))


def read_with_records(path: str, settings: DataSettings, announce: Announce) -> Iterator[ReadRecord]:
    """Yield what `read` does, each beside the record that it was read from: None where that could not be parsed."""
    if path.startswith(HUB_PREFIX):
        yield from _read_objects(hub_rows(path), path, settings, announce)
        return
    sources = find_sources(path)
    told: set[str] = set()

    def announce_once(file: str, words: str) -> None:
        if words not in told:
            told.add(words)
            announce(f"{file}: {words}")

    for source in sources:
        if len(sources) > 1 and not _holds_rows(source, sources):
            announce_once(
                source.name, f"left out, as {source.path.suffix or 'this kind of'} files beside data hold no rows"
            )
            continue
        records = _records(source, settings)
        numbered = (
            (_row_id(source.sha256, number), number, item)
            for number, item in enumerate(_to_the_end(records.items), start=1)
        )
        yield from _interpreted(numbered, source.name, records.description, settings, announce_once)


def read_rows_from_python(
    rows: Iterable[JsonObject], settings: DataSettings, announce: Announce
) -> Iterator[Row | Rejected]:
    """Yield every dict of a Python iterable as `read` would have from a file; the file is called `<python>`."""
    return (row for row, _ in read_records_from_python(rows, settings, announce))


def read_records_from_python(
    rows: Iterable[JsonObject], settings: DataSettings, announce: Announce
) -> Iterator[ReadRecord]:
    """Yield what `read_rows_from_python` does, each beside its dict: None where that is not JSON."""
    yield from _read_objects(rows, "<python>", settings, announce)


def ensure_usable(
    num_rows: int, rejected: Mapping[str, int], settings: DataSettings, examples: Sequence[Rejected] = ()
) -> None:
    """Raise DataError when there are no rows, or more than `data.max_bad_share` of them were rejected.

    `rejected` counts by rule; the first three `examples` are shown with their places.
    """
    num_bad = sum(rejected.values())
    total = num_rows + num_bad
    if total == 0:
        raise DataError(
            f"{settings.path or 'the data'} holds no rows: it is empty, or has only blank lines or a header."
        )
    if num_rows and num_bad <= settings.max_bad_share * total:
        return
    rules = ", ".join(f"{rule}: {count}" for rule, count in Counter(rejected).most_common(5))
    places = "".join(f"\n  {bad.file}:{bad.line}: {bad.rule}: {bad.detail}" for bad in examples[:3])
    share = num_bad / total
    if not num_rows:
        raise DataError(f"none of the {total} rows can be used ({rules}).{places}")
    raise DataError(
        f"{num_bad} of {total} rows ({share:.1%}) cannot be used, and at most {settings.max_bad_share:.1%} may be ({rules}).{places}\n"
        f"Mend them, or let them through as dropped rows with --set data.max_bad_share={_share_above(share)}"
    )


def _share_above(share: float) -> float:
    return min(1.0, round(share + 0.01, 2))


def _holds_rows(source: Source, sources: Sequence[Source]) -> bool:
    """Tell whether a file among several is read; prose beside tables is a README, not data."""
    kind = name_kind(source)
    if kind == "text":
        return all(name_kind(other) in ("text", None) for other in sources)
    return kind is not None or source.path.suffix == ""


def _records(source: Source, settings: DataSettings) -> Records:
    kind, encoding = find_kind(source, settings.encoding)
    formats = _formats()
    match kind:
        case "jsonl":
            return Records("JSON lines", json_lines(source, encoding))
        case "json":
            rows = json_document(source, encoding, lambda value: any(matches(value) for matches, _ in formats.values()))
            return Records("a JSON document", rows)
        case "csv":
            return csv_rows(source, encoding, settings.delimiter)
        case "text":
            return Records("plain text", text_rows(source, encoding))
        case "parquet":
            return parquet_rows(source)
        case "empty":
            return Records("empty", iter(()))
        case "other":
            raise DataError(
                f"{source.name} is not a kind of file that holds rows: JSONL, JSON, CSV, TSV, Parquet or text."
            )


def _to_the_end(items: Iterator[Record | Broken]) -> Iterator[Record | Broken]:
    """Yield the items; where a damaged archive breaks off, one Broken stands for what is lost."""
    line = 0
    try:
        for item in items:
            line = item.line
            yield item
    except RowProblem as problem:
        yield Broken(line + 1, problem.rule, problem.detail)


def _row_id(sha256: str, number: int) -> str:
    return hashlib.sha256(f"{sha256}:{number}".encode()).hexdigest()[:16]


def _read_objects(
    rows: Iterable[JsonObject], name: str, settings: DataSettings, announce: Announce
) -> Iterator[ReadRecord]:
    yield from _interpreted(
        _numbered_objects(rows), name, "rows", settings, lambda file, words: announce(f"{file}: {words}")
    )


def _numbered_objects(rows: Iterable[JsonObject]) -> Iterator[_Numbered]:
    """Number rows that come from no file; an id depends on the row and those before it."""
    running = hashlib.sha256()
    for number, row in enumerate(rows, start=1):
        try:
            value = as_object(row)
            ensure_whole_characters(value)
            running.update(canonical_json(value).encode() + b"\n")
            item: Record | Broken = Record(number, value)
        except RowProblem as problem:
            item = Broken(number, problem.rule, problem.detail)
        except (TypeError, ValueError) as error:  # not JSON: a set, a NaN, a list within itself
            item = Broken(number, "not-json", f"the row cannot be written as JSON: {error}")
        yield _row_id(running.hexdigest(), number), number, item


def _interpreted(
    items: Iterator[_Numbered],
    file: str,
    description: str,
    settings: DataSettings,
    announce: Callable[[str, str], None],
) -> Iterator[ReadRecord]:
    head = _head(items, file)
    values = [item.value for _, _, item in head if isinstance(item, Record)]
    if not values:
        announce(file, f"{description}, no readable row")
        interpretation = None
    else:
        interpretation = _interpretation(values, file, settings)
        if settings.group is not None:
            ensure_column(settings.group, values, file, "data.group")
        announce(file, f"{description} -> {interpretation.reason}")
    unread = (
        None
        if interpretation is None or _are_named(settings)
        else UnreadKeys(interpretation.read, _elsewhere(settings))
    )
    for row_id, number, item in chain(head, items):
        if isinstance(item, Broken):
            yield Rejected(row_id, file, item.line, number, item.rule, item.detail), None
            continue
        assert interpretation is not None  # _head reads on until there is a Record to tell it from
        try:
            content = _with_system(interpretation.read(item.value), settings.system)
        except RowProblem as problem:
            yield Rejected(row_id, file, item.line, number, problem.rule, problem.detail), item.value
        else:
            group = _group(item.value, settings.group)
            keys = () if unread is None else unread.of(item.value)
            yield Row(row_id, file, item.line, number, content, group, keys), item.value


def _head(items: Iterator[_Numbered], file: str) -> list[_Numbered]:
    head: list[_Numbered] = []
    num_good = num_characters = 0
    for entry in items:
        head.append(entry)
        item = entry[2]
        if isinstance(item, Record):
            num_good += 1
            num_characters += len(canonical_json(item.value))
        if num_good == HEAD_ROWS or num_characters > _HEAD_CHARACTERS:
            break
        if isinstance(item, Broken) and not num_good and len(head) == MOST_BROKEN_HEAD:
            raise DataError(
                f"{file}: none of the first {MOST_BROKEN_HEAD} records can be read; the last: line {item.line}: {item.rule}: {item.detail}."
            )
    return head


def _interpretation(head: Sequence[JsonObject], file: str, settings: DataSettings) -> Interpretation:
    if _are_named(settings):
        return named_columns(settings, head, file)
    if settings.format is not None:
        return Interpretation(
            f"format {settings.format}, as it was named", parts.load(FORMATS, settings.format, "read")
        )
    formats = _formats()
    votes = Counter(name for row in head for name, (matches, _) in formats.items() if matches(row))
    winner, count = votes.most_common(1)[0] if votes else ("", 0)
    guessed = guessed_columns(head) if 2 * count < len(head) else None
    if guessed is not None:
        return Interpretation(f"{guessed.reason}, the only columns that look like question and answer", guessed.read)
    if not winner:
        raise no_usable_column(head, file)
    seen = f"{count} of the first {len(head)} rows have its shape"
    return Interpretation(
        f"format {winner}: {seen} ({', '.join(_shape(head, formats[winner][0]))})", _reader(winner, formats)
    )


_Formats = dict[str, tuple[Callable[[JsonObject], bool], Callable[[JsonObject], Content]]]


def _formats() -> _Formats:
    return {
        name: (parts.load(FORMATS, name, "matches"), parts.load(FORMATS, name, "read")) for name in parts.names(FORMATS)
    }


def _shape(head: Sequence[JsonObject], matches: Callable[[JsonObject], bool]) -> list[str]:
    return list(next(row for row in head if matches(row)))[:6]


def _reader(winner: str, formats: _Formats) -> Callable[[JsonObject], Content]:
    """Read by the file's format; a row that has another format's shape is read by that one."""
    winner_matches, winner_read = formats[winner]
    others = [pair for name, pair in formats.items() if name != winner]

    def read_row(row: JsonObject) -> Content:
        if winner_matches(row):
            return winner_read(row)
        for matches, read_other in others:
            if matches(row):
                return read_other(row)
        winner_read(row)  # says precisely what is missing
        raise RowProblem("unknown-format", f"the row has the keys {', '.join(row)}, unlike the file's format {winner}")

    return read_row


def _with_system(content: Content, system: str | None) -> Content:
    if system is None or isinstance(content, Text):
        return content
    turns = content.messages if isinstance(content, Conversation) else content.prompt
    if turns and turns[0].role == "system":
        return content
    turns = (Message("system", system), *turns)
    if isinstance(content, Preference):
        return dataclasses.replace(content, prompt=turns)
    return dataclasses.replace(content, messages=turns)


def _are_named(settings: DataSettings) -> bool:
    """Tell whether the user named the columns; then what else the rows hold is left out as they wish."""
    return bool(settings.input or settings.output)


def _elsewhere(settings: DataSettings) -> tuple[str, ...]:
    return () if settings.group is None else (settings.group,)


def _group(row: JsonObject, column: str | None) -> str | None:
    value = None if column is None else row.get(column)
    return None if value is None or value == "" else value_text(value)
