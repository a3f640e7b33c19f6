"""Batches as their owners see them, and as the server that works on them moves them on.

A batch goes from `validating` to `in_progress` to `completed`; it has `failed` when its file cannot be used. A
cancellation makes it `cancelling` until the answers that are being written have been broken off. One server holds a data
folder, so one server works on its batches: there is nobody to claim them from, and a change only has to find the batch
in the status that it starts from.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from luthier.core.hashing import json_hash
from luthier.core.rundir import sync_folder
from luthier.core.types import JsonObject, JsonValue
from luthier.jobs.database import Database
from luthier.jobs.files import insert
from luthier.jobs.folder import DataFolder
from luthier.jobs.records import BatchRecord, BatchStatus, FileRecord, Page, new_id, now, page, record
from luthier.jobs.submit import KEY_SECONDS, REPEAT_SECONDS, FileGone, KeyReused, QueueFull
from luthier.jobs.tables import batches

INPUT, OUTPUT, ERRORS = "input.jsonl", "output.jsonl", "errors.jsonl"
WINDOW_SECONDS = 24 * 3600
_ENDED: tuple[BatchStatus, ...] = ("failed", "completed", "expired", "cancelled")
_KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: `request` as the client sent it; `key` and `is_retry` as in a job's submission."""

    project_id: str
    request: JsonObject
    endpoint: str
    input_file: str
    key: str | None = None
    is_retry: bool = False
    seconds: int = WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been done of a batch: requests that were answered, requests that failed, tokens."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    tokens_in: int = 0
    cached: int = 0
    tokens_out: int = 0

    def values(self) -> dict[str, object]:
        """Return the columns that tell it."""
        return {
            "counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": {"tokens_in": self.tokens_in, "cached": self.cached, "tokens_out": self.tokens_out},
        }


class Batches:
    """The batches of all projects; every question of a client names the project that asks."""

    def __init__(self, database: Database, folder: DataFolder, most_unfinished: int) -> None:
        self._database, self._folder, self._most_unfinished = database, folder, most_unfinished

    def create(self, wanted: Wish) -> BatchRecord:
        """Return the new batch, or the one that the same request made before; it is on the disk when this returns.

        Raises KeyReused, QueueFull, FileGone.
        """
        digest = json_hash(wanted.request)
        with self._database.writing() as connection:
            earlier = _earlier(connection, wanted, digest)
            if earlier is not None:
                return earlier
            self._refuse_too_many(connection, wanted.project_id)
            batch_id = new_id("batch_")
            self._take_input(batch_id, wanted.input_file)
            connection.execute(
                sa.insert(batches).values(
                    id=batch_id, project_id=wanted.project_id, created_at=now(), expires_at=now() + wanted.seconds,
                    status="validating", endpoint=wanted.endpoint, request=wanted.request, request_hash=digest, key=wanted.key,
                    input_file=wanted.input_file, times={}, **Progress().values(),
                )
            )  # fmt: skip
            return _one(connection, batch_id)

    def find(self, project_id: str, batch_id: str) -> BatchRecord | None:
        """Return a project's batch, or None."""
        wanted = sa.select(batches).where(batches.c.project_id == project_id, batches.c.id == batch_id)
        with self._database.reading() as connection:
            row = connection.execute(wanted).mappings().first()
        return None if row is None else record(BatchRecord, batches, row)

    def listed(self, project_id: str, after: int | None, limit: int) -> Page[BatchRecord]:
        """Return one page of a project's batches, newest first."""
        wanted = sa.select(batches).where(batches.c.project_id == project_id)
        with self._database.reading() as connection:
            return page(connection, BatchRecord, batches, wanted, after, limit)

    def cancel(self, project_id: str, batch_id: str) -> bool:
        """Ask that a batch end before its time; False when it had ended already. To ask twice is no error."""
        with self._database.writing() as connection:
            if _one(connection, batch_id).project_id != project_id:
                return False
            _move(connection, batch_id, ("validating", "in_progress"), "cancelling")
            return _one(connection, batch_id).status == "cancelling"

    def unfinished(self) -> list[BatchRecord]:
        """Return the batches of all projects that there is something to do for, oldest first."""
        wanted = sa.select(batches).where(batches.c.status.not_in(_ENDED)).order_by(batches.c.number)
        with self._database.reading() as connection:
            return [record(BatchRecord, batches, row) for row in connection.execute(wanted).mappings()]

    def status(self, batch_id: str) -> BatchStatus:
        """Return where a batch is."""
        with self._database.reading() as connection:
            return _one(connection, batch_id).status

    def begin(self, batch_id: str, total: int, model: str | None) -> bool:
        """Say that a batch's file can be used; `model` is the one that all its requests name. False once cancelled."""
        with self._database.writing() as connection:
            told = Progress(total).values()
            return _move(connection, batch_id, ("validating",), "in_progress", model=model, **told)

    def note(self, batch_id: str, done: Progress) -> None:
        """Write down how far a batch is."""
        with self._database.writing() as connection:
            mine = sa.and_(batches.c.id == batch_id, batches.c.status.not_in(_ENDED))
            connection.execute(sa.update(batches).where(mine).values(**done.values()))

    def refuse(self, batch_id: str, errors: Sequence[JsonValue]) -> None:
        """End a batch whose file cannot be used, or that cannot be worked on."""
        with self._database.writing() as connection:
            _move(connection, batch_id, ("validating", "in_progress", "cancelling"), "failed", errors=list(errors))

    def end(
        self, batch_id: str, status: BatchStatus, done: Progress, output: FileRecord | None, errors: FileRecord | None
    ) -> None:
        """End a batch with what was answered: the rows of its files and its status, all of it or nothing."""
        with self._database.writing() as connection:
            files = {"output_file": output, "error_file": errors}
            named = {name: file.id for name, file in files.items() if file is not None}
            if status == "completed":
                _move(connection, batch_id, ("in_progress",), "finalizing")
            before: tuple[BatchStatus, ...] = ("validating", "in_progress", "finalizing", "cancelling")
            if _move(connection, batch_id, before, status, **done.values(), **named):
                for file in (output, errors):
                    if file is not None:
                        insert(connection, file)

    def forget_ended(self, kept_seconds: int = _KEPT_SECONDS) -> None:
        """Remove the folders of batches that ended a while ago, and of those that no row speaks of.

        A backup that goes on while a batch ends still finds the folder that its copy of the database speaks of.
        """
        with self._database.reading() as connection:
            kept = sa.select(batches.c.id).where(batches.c.status.not_in(_ENDED))
            known = set(connection.execute(kept).scalars())
        for path in self._folder.batches.iterdir():
            if path.name not in known and path.stat().st_mtime < now() - kept_seconds:
                self._folder.throw_away(path)

    def _refuse_too_many(self, connection: sa.Connection, project_id: str) -> None:
        unfinished = sa.select(sa.func.count()).where(
            batches.c.project_id == project_id, batches.c.status.not_in(_ENDED)
        )
        if int(connection.execute(unfinished).scalar_one()) >= self._most_unfinished:
            raise QueueFull(
                f"there are {self._most_unfinished} unfinished batches, and no more may wait; cancel one, or try later."
            )

    def _take_input(self, batch_id: str, file_id: str) -> None:
        """Give the batch a name of its own for its file, so that it reads it to the end even if it is deleted."""
        place = self._folder.batch(batch_id)
        place.mkdir(mode=0o700)
        try:
            os.link(self._folder.file(file_id), place / INPUT)
        except FileNotFoundError as error:
            place.rmdir()
            raise FileGone(file_id) from error
        sync_folder(place)
        sync_folder(self._folder.batches)


def _earlier(connection: sa.Connection, wanted: Wish, digest: str) -> BatchRecord | None:
    """Return the batch that the same request made before, by its key or by the client's count of retries."""
    mine = sa.select(batches).where(batches.c.project_id == wanted.project_id).order_by(batches.c.number.desc())
    if wanted.key is not None:
        mine = mine.where(batches.c.key == wanted.key, batches.c.created_at >= now() - KEY_SECONDS)
    elif wanted.is_retry:
        mine = mine.where(batches.c.request_hash == digest, batches.c.created_at >= now() - REPEAT_SECONDS)
    else:
        return None
    row = connection.execute(mine).mappings().first()
    if row is not None and row["request_hash"] != digest:
        raise KeyReused(f"the idempotency key {wanted.key!r} was used before with another request.")
    return None if row is None else record(BatchRecord, batches, row)


def _move(
    connection: sa.Connection, batch_id: str, before: Sequence[BatchStatus], status: BatchStatus, **values: object
) -> bool:
    """Change a batch's status and note when; tell whether it was in one of those that the change starts from."""
    wanted = sa.select(batches.c.times).where(batches.c.id == batch_id, batches.c.status.in_(before))
    times = connection.execute(wanted).scalar()
    if times is None:
        return False
    change = sa.update(batches).where(batches.c.id == batch_id)
    connection.execute(change.values(status=status, times={**times, f"{status}_at": now()}, **values))
    return True


def _one(connection: sa.Connection, batch_id: str) -> BatchRecord:
    row = connection.execute(sa.select(batches).where(batches.c.id == batch_id)).mappings().one()
    return record(BatchRecord, batches, row)
