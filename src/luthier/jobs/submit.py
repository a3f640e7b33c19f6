"""Jobs as their owners see them: created once however often the request arrives, looked at, listed.

A request that is sent again because its answer was lost must not train twice. With an idempotency key the first job is
returned for 24 hours; without one, the client's own count of retries marks a repetition, for 15 minutes.
"""

import os
from dataclasses import dataclass

import sqlalchemy as sa

from luthier.core.errors import LuthierError
from luthier.core.hashing import json_hash
from luthier.core.rundir import sync_folder
from luthier.core.types import JsonObject
from luthier.jobs.database import Database
from luthier.jobs.folder import DataFolder
from luthier.jobs.queue import say
from luthier.jobs.records import (
    FINAL,
    CheckpointRecord,
    EventRecord,
    JobRecord,
    ModelRecord,
    Page,
    new_id,
    now,
    page,
    record,
)
from luthier.jobs.tables import checkpoints, events, idempotency, jobs, models

TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"
KEY_SECONDS = 24 * 3600
REPEAT_SECONDS = 15 * 60


class KeyReused(LuthierError):
    """An idempotency key came a second time with another request."""


class QueueFull(LuthierError):
    """A project has as many unfinished jobs as it may have."""


class FileGone(LuthierError):
    """A file that the job needs is not there."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is asked for: `request` as the client sent it, `base` the model and `warm_from` the checkpoint to start from.

    `resolved` is what the model's name means by the server's settings, where they say so.
    """

    project_id: str
    request: JsonObject
    model: str
    base: str
    seed: int
    training_file: str
    validation_file: str | None
    hyperparameters: JsonObject
    warm_from: str | None = None
    key: str | None = None
    is_retry: bool = False
    resolved: str | None = None


class Jobs:
    """The jobs of all projects; every question names the project that asks."""

    def __init__(self, database: Database, folder: DataFolder, most_unfinished: int) -> None:
        self._database, self._folder, self._most_unfinished = database, folder, most_unfinished

    def create(self, wanted: Submission) -> JobRecord:
        """Return the new job, or the one that the same request made before; it is on the disk when this returns.

        Raises KeyReused, QueueFull, FileGone.
        """
        digest = json_hash(wanted.request)
        with self._database.writing() as connection:
            earlier = self._earlier(connection, wanted, digest)
            if earlier is not None:
                return _job(connection, earlier)
            self._refuse_too_many(connection, wanted.project_id)
            job_id = new_id("ftjob-")
            self._take_inputs(job_id, wanted)
            connection.execute(sa.insert(jobs).values(**_row(wanted, job_id, digest)))
            if wanted.key is not None:
                connection.execute(
                    sa.insert(idempotency).values(
                        project_id=wanted.project_id,
                        key=wanted.key,
                        request_hash=digest,
                        job_id=job_id,
                        created_at=now(),
                    )
                )
            say(connection, job_id, f"Created fine-tuning job: {job_id}")
            if wanted.resolved is not None:
                say(connection, job_id, f"The server's settings say what {wanted.model} is here: {wanted.resolved}")
            say(connection, job_id, f"Validating training file: {wanted.training_file}")
            return _job(connection, job_id)

    def find(self, project_id: str, job_id: str) -> JobRecord | None:
        """Return a project's job, or None."""
        with self._database.reading() as connection:
            row = connection.execute(_of(project_id).where(jobs.c.id == job_id)).mappings().first()
        return None if row is None else record(JobRecord, jobs, row)

    def listed(
        self, project_id: str, after: int | None, limit: int, metadata: JsonObject | None = None, *,
        without_metadata: bool = False,
    ) -> Page[JobRecord]:  # fmt: skip
        """Return one page of a project's jobs, newest first; only those whose metadata has all these pairs.

        With `without_metadata`, only those that have none.
        """
        wanted = _of(project_id)
        if without_metadata:
            wanted = wanted.where(jobs.c.request["metadata"].as_string().is_(None))
        for key, value in (metadata or {}).items():
            wanted = wanted.where(jobs.c.request["metadata"][key].as_string() == value)
        with self._database.reading() as connection:
            return page(connection, JobRecord, jobs, wanted, after, limit)

    def events(self, job_id: str, after: int | None, limit: int) -> Page[EventRecord]:
        """Return one page of a job's events, newest first."""
        wanted = sa.select(events).where(events.c.job_id == job_id)
        with self._database.reading() as connection:
            return page(connection, EventRecord, events, wanted, after, limit)

    def checkpoints(self, job_id: str, after: int | None, limit: int) -> Page[CheckpointRecord]:
        """Return one page of a job's checkpoints, newest first."""
        wanted = sa.select(checkpoints).where(checkpoints.c.job_id == job_id)
        with self._database.reading() as connection:
            return page(connection, CheckpointRecord, checkpoints, wanted, after, limit)

    def number_of(self, table: sa.Table, project_id: str, row_id: str) -> int | None:
        """Return the place in its table of what a project owns, for `after`; None for what is gone or another's."""
        owned, owner = (table, table) if "project_id" in table.c else (table.join(jobs), jobs)
        wanted = sa.select(table.c.number).select_from(owned)
        with self._database.reading() as connection:
            found = connection.execute(wanted.where(table.c.id == row_id, owner.c.project_id == project_id)).scalar()
        return None if found is None else int(found)

    def models(self, project_id: str) -> list[ModelRecord]:
        """Return a project's tuned models, newest first; checkpoints are models too, but not listed."""
        wanted = sa.select(models).where(models.c.project_id == project_id).order_by(models.c.number.desc())
        with self._database.reading() as connection:
            return [record(ModelRecord, models, row) for row in connection.execute(wanted).mappings()]

    def checkpoint_of(self, project_id: str, model: str) -> CheckpointRecord | None:
        """Return the checkpoint that is a model of this name."""
        wanted = sa.select(checkpoints).join(jobs).where(jobs.c.project_id == project_id, checkpoints.c.model == model)
        with self._database.reading() as connection:
            row = connection.execute(wanted).mappings().first()
        return None if row is None else record(CheckpointRecord, checkpoints, row)

    def delete_model(self, project_id: str, model: str) -> bool:
        """Take a tuned model out of the list; tell whether there was one. Its job and its files stay."""
        with self._database.writing() as connection:
            wanted = sa.delete(models).where(models.c.project_id == project_id, models.c.id == model)
            return bool(connection.execute(wanted).rowcount)

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each status, of all projects."""
        wanted = sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status)
        with self._database.reading() as connection:
            return {str(status): int(count) for status, count in connection.execute(wanted)}

    def _earlier(self, connection: sa.Connection, wanted: Submission, digest: str) -> str | None:
        if wanted.key is not None:
            mine = sa.and_(idempotency.c.project_id == wanted.project_id, idempotency.c.key == wanted.key)
            connection.execute(sa.delete(idempotency).where(mine, idempotency.c.created_at < now() - KEY_SECONDS))
            row = connection.execute(sa.select(idempotency).where(mine)).mappings().first()
            if row is not None and row["request_hash"] != digest:
                raise KeyReused(f"the idempotency key {wanted.key!r} was used before with another request.")
            return None if row is None else str(row["job_id"])
        if not wanted.is_retry:
            return None
        same = sa.select(jobs.c.id).where(
            jobs.c.project_id == wanted.project_id, jobs.c.request_hash == digest,
            jobs.c.created_at >= now() - REPEAT_SECONDS,
        )  # fmt: skip
        found = connection.execute(same.order_by(jobs.c.number.desc())).scalar()
        return None if found is None else str(found)

    def _refuse_too_many(self, connection: sa.Connection, project_id: str) -> None:
        unfinished = sa.select(sa.func.count()).where(jobs.c.project_id == project_id, jobs.c.status.not_in(FINAL))
        if int(connection.execute(unfinished).scalar_one()) >= self._most_unfinished:
            raise QueueFull(
                f"there are {self._most_unfinished} unfinished jobs, and no more may wait; cancel one, or try later."
            )

    def _take_inputs(self, job_id: str, wanted: Submission) -> None:
        """Give the job names of its own for its files, so that it reads them to the end even if they are deleted."""
        place = self._folder.job(job_id)
        place.mkdir(mode=0o700)
        for name, file_id in ((TRAINING, wanted.training_file), (VALIDATION, wanted.validation_file)):
            if file_id is None:
                continue
            try:
                os.link(self._folder.file(file_id), place / name)
            except FileNotFoundError as error:
                raise FileGone(file_id) from error
        sync_folder(place)
        sync_folder(self._folder.jobs)


def _row(wanted: Submission, job_id: str, digest: str) -> dict[str, object]:
    return {
        "id": job_id, "project_id": wanted.project_id, "created_at": now(), "status": "validating_files",
        "model": wanted.model, "base": wanted.base, "warm_from": wanted.warm_from, "request": wanted.request, "request_hash": digest,
        "seed": wanted.seed,
        "training_file": wanted.training_file, "validation_file": wanted.validation_file,
        "hyperparameters": wanted.hyperparameters,
    }  # fmt: skip


def _of(project_id: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(jobs).where(jobs.c.project_id == project_id)


def _job(connection: sa.Connection, job_id: str) -> JobRecord:
    return record(JobRecord, jobs, connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().one())
