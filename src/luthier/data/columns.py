"""Columns to conversations: those that the user named, or a pair that can only be meant one way."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luthier.config.settings import DataSettings
from luthier.core.errors import DataError, nearest
from luthier.core.types import Content, JsonObject
from luthier.data.messages import answer_text, prompt_text, single_turn
from luthier.data.problems import RowProblem

_INPUTS = frozenset(
    [
        "text",
        "utterance",
        "question",
        "query",
        "prompt",
        "input",
        "sentence",
        "instruction",
        "message",
        "request",
        "source_text",
        "review",
        "comment",
        "context",
        "passage",
        "document",
        "article",
        "ticket",
        "email",
        "body",
    ]
)
_OUTPUTS = frozenset(
    [
        "label",
        "intent",
        "answer",
        "response",
        "output",
        "completion",
        "target",
        "summary",
        "category",
        "class",
        "sentiment",
        "slots",
        "entities",
        "tags",
        "reply",
        "target_text",
        "topic",
        "labels",
        "answers",
    ]
)


@dataclass(frozen=True, slots=True)
class Interpretation:
    """How rows become content; `reason` says in words what was chosen and why."""

    reason: str
    read: Callable[[JsonObject], Content]


def named_columns(settings: DataSettings, head: Sequence[JsonObject], file: str) -> Interpretation:
    """Return the reading by `data.input` and `data.output`; one that is not named is guessed.

    Raises DataError, listing the columns there are, when a named column is in none of the rows of `head`.
    """
    there = _columns(head)
    source = settings.input or _only(there, _INPUTS - set(settings.output or ()))
    targets = settings.output or tuple(name for name in [_only(there, _OUTPUTS - {settings.input})] if name)
    if source is None or not targets:
        missing = "data.input (--input)" if source is None else "data.output (--output)"
        raise DataError(f"{file}: {missing} is not named and cannot be guessed; there are: {', '.join(there)}.")
    for column in (source, *targets):
        if column not in there:
            raise DataError(
                f"{file}: there is no column {column!r}.{nearest(column, there)} There are: {', '.join(there)}."
            )
    return _pair(source, targets)


def guessed_columns(head: Sequence[JsonObject]) -> Interpretation | None:
    """Return the reading by the only input and the only output column that most rows have, if there is one of each."""
    there = [name for name in _columns(head) if 2 * sum(name in row for row in head) > len(head)]
    source, target = _only(there, _INPUTS), _only(there, _OUTPUTS)
    return _pair(source, (target,)) if source and target else None


def no_usable_column(head: Sequence[JsonObject], file: str) -> DataError:
    """Return the error for rows that match no format and hold no pair of columns to guess."""
    return DataError(
        f"{file}: no usable column was found: the rows match no known format, and no single pair of columns is clearly question and "
        f"answer. There are: {', '.join(_columns(head)) or 'none'}; name them with --input and --output."
    )


def ensure_column(column: str, head: Sequence[JsonObject], file: str, setting: str) -> None:
    """Raise DataError if none of the rows of `head` has the column that a setting names."""
    there = _columns(head)
    if column not in there:
        raise DataError(
            f"{file}: {setting} names the column {column!r}, which is in no row.{nearest(column, there)} There are: {', '.join(there)}."
        )


def _pair(source: str, targets: tuple[str, ...]) -> Interpretation:
    def read(row: JsonObject) -> Content:
        question = prompt_text(row, source)
        return single_turn(question, answer_text(row, targets[0]) if len(targets) == 1 else _object_text(row, targets))

    return Interpretation(f"input={source}, output={','.join(targets)}", read)


def _object_text(row: JsonObject, columns: tuple[str, ...]) -> str:
    for column in columns:
        if column not in row:
            raise RowProblem("missing-answer", f"there is no {column!r}.{nearest(column, row)}")
    if all(row[column] in (None, "", [], {}) for column in columns):
        raise RowProblem("empty-answer", f"{', '.join(columns)} are all empty")
    return json.dumps({column: row[column] for column in columns}, ensure_ascii=False)


def _columns(head: Sequence[JsonObject]) -> list[str]:
    """List the columns of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(column for row in head for column in row))


def _only(there: Sequence[str], known: frozenset[str]) -> str | None:
    """Return the one column whose name is known, None if there is none or several."""
    found = [name for name in there if name.strip().lower() in known]
    return found[0] if len(found) == 1 else None
