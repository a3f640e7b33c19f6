"""What the database holds, as values: files, jobs, events, checkpoints, models, batches, keys; and one page of a list."""

import secrets
import time
from dataclasses import dataclass, fields
from typing import Generic, Literal, TypeVar, cast

import sqlalchemy as sa

from luthier.core.types import JsonObject, JsonValue

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
Level = Literal["info", "warn", "error"]
FINAL: tuple[Status, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """An upload or a result; its bytes lie in the data folder under its id."""

    number: int
    id: str
    project_id: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    created_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A fine-tuning job.

    `request` is what was asked, `base` and `warm_from` are where training starts, `token` is the newest claim.
    """

    number: int
    id: str
    project_id: str
    created_at: int
    finished_at: int | None
    status: Status
    model: str
    base: str
    warm_from: str | None
    request: JsonObject
    seed: int
    training_file: str
    validation_file: str | None
    hyperparameters: JsonObject
    error: JsonObject | None
    fine_tuned_model: str | None
    result_file: str | None
    trained_tokens: int | None
    estimated_finish: int | None
    step: int
    token: int
    attempt: int


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened to a job; `data` of a `metrics` event has the figures of one step."""

    number: int
    id: str
    job_id: str
    created_at: int
    level: Level
    type: Literal["message", "metrics"]
    message: str
    data: JsonObject | None


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A published checkpoint: the step, the figures there, and the name under which it is a model."""

    number: int
    id: str
    job_id: str
    created_at: int
    step: int
    model: str
    metrics: JsonObject


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A tuned model; `checkpoint` and `package` are paths below the data folder."""

    number: int
    id: str
    project_id: str
    job_id: str
    created_at: int
    base: str
    checkpoint: str
    package: str | None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """Many requests in a file; `counts` and `usage` are what has been done of it, `times` when it changed its status."""

    number: int
    id: str
    project_id: str
    created_at: int
    expires_at: int
    status: BatchStatus
    endpoint: str
    model: str | None
    request: JsonObject
    input_file: str
    output_file: str | None
    error_file: str | None
    errors: list[JsonValue] | None
    counts: JsonObject
    usage: JsonObject
    times: JsonObject


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key without its secret; `hint` is how it ends, `expires_at` when it does, or None."""

    id: str
    project_id: str
    project: str
    name: str
    hint: str
    created_at: int
    last_used_at: int | None
    revoked_at: int | None
    expires_at: int | None

    def is_valid(self, at: int) -> bool:
        """Tell whether it opens anything at this time."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


Record = TypeVar("Record", FileRecord, JobRecord, EventRecord, CheckpointRecord, ModelRecord, BatchRecord)


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """Some records of a list, and whether there are more behind them."""

    records: tuple[Record, ...]
    has_more: bool


def record(kind: type[Record], table: sa.Table, row: sa.RowMapping) -> Record:
    """Return a row of a table as the record of its kind."""
    values = {field.name: cast(object, row[table.c[field.name]]) for field in fields(kind)}
    return kind(**values)  # type: ignore[arg-type]  # a table has a column of its type for every field of its record


def page(
    connection: sa.Connection, kind: type[Record], table: sa.Table, wanted: sa.Select[tuple[object, ...]],
    after: int | None, limit: int, *, ascending: bool = False,
) -> Page[Record]:  # fmt: skip
    """Return `limit` records of a table behind the one numbered `after`, newest first unless `ascending`.

    Rows that arrive meanwhile get higher numbers, so that a walk over the pages meets each record once.
    """
    number = table.c.number
    if after is not None:
        wanted = wanted.where(number > after if ascending else number < after)
    wanted = wanted.order_by(number.asc() if ascending else number.desc()).limit(limit + 1)
    found = [record(kind, table, row) for row in connection.execute(wanted).mappings()]
    return Page(tuple(found[:limit]), len(found) > limit)


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess."""
    return prefix + secrets.token_hex(12)


def now() -> int:
    """The time in whole UTC seconds."""
    return int(time.time())
