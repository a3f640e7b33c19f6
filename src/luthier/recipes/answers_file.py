"""Answers that somebody gave, read from a file of any kind: question, completion and wanted text by column.

Our own `answers/<arm>.parquet` is such a file; its rows know the line of the data that they answer.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.core.errors import DataError, nearest
from luthier.core.types import JsonObject, JsonValue
from luthier.data.csv_rows import csv_rows
from luthier.data.json_rows import json_document, json_lines
from luthier.data.kinds import find_kind
from luthier.data.messages import messages_from, value_text
from luthier.data.parquet_rows import parquet_rows
from luthier.data.problems import RowProblem
from luthier.data.records import Broken, Record
from luthier.data.sources import Source, find_sources

COMPLETIONS = ("completion", "prediction", "predicted", "generated", "generation", "model_output", "output", "response")
ANSWERS = ("answer", "wanted", "reference", "expected", "ideal", "target", "gold", "label")
PROMPTS = ("messages", "prompt", "question", "input", "query", "text")
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: `place` is `file:line`, `answer` the wanted text, None where the file has none."""

    place: str
    prompt: str
    completion: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that the user named, None and empty where they are to be found by their usual names."""

    prompt: str | None = None
    completion: str | None = None
    answer: tuple[str, ...] = ()


def read_answers_file(path: str, columns: Columns) -> list[Answered]:
    """Read the answers of a file, folder or glob; raise DataError where a row has no completion."""
    return _answered([(f"{name}:{record.line}", record.value) for name, record in records_in(path)], columns, path)


def records_in(path: str) -> list[tuple[str, Record]]:
    """Return the records of a file, folder or glob, each with its file's name; raise DataError where one cannot be read."""
    items = [(source.name, item) for source in find_sources(path) for item in _items(source)]
    broken = [f"{name}:{item.line}: {item.rule}: {item.detail}" for name, item in items if isinstance(item, Broken)]
    if broken:
        raise DataError(
            f"{len(broken)} of {len(items)} rows of {path} cannot be read:\n  " + "\n  ".join(broken[:_MOST_SHOWN])
        )
    return [(name, item) for name, item in items if isinstance(item, Record)]


def answers_from_python(rows: Iterable[JsonObject], columns: Columns) -> list[Answered]:
    """Read answers from dicts; a row's place is its number, from 1."""
    return _answered([(f"<python>:{number}", row) for number, row in enumerate(rows, start=1)], columns, "the rows")


def _items(source: Source) -> Iterator[Record | Broken]:
    kind, encoding = find_kind(source, None)
    match kind:
        case "jsonl":
            return json_lines(source, encoding)
        case "json":
            return json_document(source, encoding, lambda row: any(name in row for name in COMPLETIONS))
        case "csv":
            return csv_rows(source, encoding, None).items
        case "parquet":
            return parquet_rows(source).items
        case _:
            raise DataError(f"{source.path} holds no rows: rows are read from JSONL, JSON, CSV, TSV or Parquet.")


def _answered(rows: Sequence[tuple[str, JsonObject]], columns: Columns, path: str) -> list[Answered]:
    if not rows:
        raise DataError(f"{path} holds no answers.")
    there = list(dict.fromkeys(column for _, row in rows for column in row))
    completion = named_column(columns.completion, COMPLETIONS, there, "--completion", path)
    if completion is None:
        raise DataError(
            f"{path}: name the column with the completions with --completion; there are: {', '.join(there)}."
        )
    answers = _answer_columns(columns.answer, [name for name in there if name != completion], path)
    prompt = named_column(
        columns.prompt, PROMPTS, [name for name in there if name not in (completion, *answers)], "--prompt", path
    )
    missing = [place for place, row in rows if completion not in row or any(name not in row for name in answers)]
    if missing:
        wanted = " and ".join(repr(name) for name in (completion, *answers))
        raise DataError(f"{len(missing)} rows lack {wanted}, the first: {', '.join(missing[:_MOST_SHOWN])}.")
    return [
        Answered(
            _place(place, row), _question(row.get(prompt)) if prompt else "", _text(row[completion]),
            wanted_text(row, answers) if answers else None,
        )
        for place, row in rows
    ]  # fmt: skip


def _answer_columns(named: tuple[str, ...], there: list[str], path: str) -> tuple[str, ...]:
    for name in named:
        named_column(name, ANSWERS, there, "--answer", path)
    found = named_column(None, ANSWERS, there, "--answer", path) if not named else None
    return named or ((found,) if found else ())


def named_column(named: str | None, usual: tuple[str, ...], there: list[str], option: str, path: str) -> str | None:
    """Return the named column, or the first usual one that is there, or None; raise DataError where the named one is nowhere."""
    if named is not None and named not in there:
        raise DataError(
            f"{path}: {option} names {named!r}, which is in no row.{nearest(named, there)} There are: {', '.join(there)}."
        )
    return named or next((name for name in usual if name in there), None)


def wanted_text(row: JsonObject, columns: tuple[str, ...]) -> str:
    """Return the wanted text; several columns become one JSON object, as in the rows of a run."""
    if len(columns) == 1:
        return _text(row[columns[0]])
    return json.dumps({column: row[column] for column in columns}, ensure_ascii=False)


def _text(value: JsonValue) -> str:
    return "" if value is None else value_text(value)


def _question(value: JsonValue) -> str:
    """Return the last message of the user where the value holds messages, else its text."""
    if isinstance(value, list) or (isinstance(value, str) and value.startswith("[{")):
        try:
            asked = [message.content for message in messages_from(value) if message.role == "user"]
        except RowProblem:
            return _text(value)
        return asked[-1] if asked else ""
    return _text(value)


def _place(place: str, row: JsonObject) -> str:
    own = isinstance(row.get("file"), str) and isinstance(row.get("line"), int) and "completion" in row
    return f"{row['file']}:{row['line']}" if own else place


def run_of(path: str) -> Path | None:
    """Return the run folder that a file of answers lies in, if it does."""
    folder = Path(path).resolve().parent.parent
    return folder if (folder / "config.yaml").exists() and Path(path).resolve().parent.name == "answers" else None
