"""The queue: a job is started at least once, and what it does counts exactly once.

Whoever works on a job has claimed it: the claim gives a token, higher than any before it, and a lease that is renewed
while the work goes on. Every write names its token; when another claim or a cancellation has come since, the write is
refused with `Stale`. So a worker that was thought dead and wakes up again changes nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from luthier.core.errors import LuthierError
from luthier.core.types import JsonObject
from luthier.jobs.database import Database
from luthier.jobs.files import insert
from luthier.jobs.processes import ProcessName, boot_id, is_alive
from luthier.jobs.records import FINAL, FileRecord, JobRecord, Level, Status, new_id, now, record
from luthier.jobs.tables import checkpoints, events, jobs, models

LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 10.0
MOST_ATTEMPTS = 3
KEPT_CHECKPOINTS = 3

Phase = Literal["validate", "train"]
_WAITING: dict[Phase, tuple[Status, ...]] = {"validate": ("validating_files",), "train": ("queued", "running")}


class Stale(LuthierError):
    """Another claim or a cancellation has come since; nothing was written."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job, until another claim is made."""

    job: JobRecord
    token: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of one step."""

    step: int
    message: str
    data: JsonObject


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job has made: its model's name, where it lies below the data folder, and the result file."""

    model: str
    base: str
    checkpoint: str
    package: str
    result: FileRecord
    trained_tokens: int


class Queue:
    """Claims on the jobs of a database. `clock` counts seconds since the machine started."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock, self._boot = database, clock, boot_id()

    def claim(self, phase: Phase) -> Claim | None:
        """Claim the oldest waiting job of a phase, or return None."""
        waiting = sa.select(jobs).where(jobs.c.status.in_(_WAITING[phase]), jobs.c.lease_until.is_(None))
        with self._database.reading() as connection:  # an idle server asks often and need not keep writers waiting
            if connection.execute(waiting.limit(1)).first() is None:
                return None
        with self._database.writing() as connection:
            row = connection.execute(waiting.order_by(jobs.c.number)).mappings().first()
            if row is None:
                return None
            token = int(row["token"]) + 1
            change = {"token": token, "attempt": int(row["attempt"]) + 1, **self._lease()}
            connection.execute(sa.update(jobs).where(jobs.c.id == row["id"]).values(**change))
            return Claim(record(JobRecord, jobs, row), token, phase)

    def take_over(self, job_id: str, token: int, worker: ProcessName) -> JobRecord:
        """Tell who works on a claimed job, and return it; raise Stale."""
        with self._database.writing() as connection:
            self._change(connection, job_id, token, worker_pid=worker.pid, worker_start=worker.start, **self._lease())
            return record(JobRecord, jobs, connection.execute(_job(job_id)).mappings().one())

    def renew(self, job_id: str, token: int) -> None:
        """Renew the lease; raise Stale when the claim is worth nothing any more."""
        with self._database.writing() as connection:
            self._change(connection, job_id, token, **self._lease())

    def still_mine(self, job_id: str, token: int) -> bool:
        """Tell whether the claim is the newest and the job unfinished, without writing."""
        with self._database.reading() as connection:
            row = connection.execute(_job(job_id)).mappings().first()
        return row is not None and row["token"] == token and row["status"] not in FINAL

    def queued(self, job_id: str, token: int) -> None:
        """Put a job whose files are good into the queue for training, and give the claim back."""
        with self._database.writing() as connection:
            self._change(connection, job_id, token, status="queued", attempt=0, **_NO_LEASE)
            say(connection, job_id, "Files validated, moving job to queued state")

    def running(self, job_id: str, token: int, attempt: int) -> None:
        """Say that training has begun, or goes on."""
        words = "Fine-tuning job started" if attempt == 1 else f"Fine-tuning job goes on: attempt {attempt}"
        with self._database.writing() as connection:
            self._change(connection, job_id, token, status="running")
            say(connection, job_id, words)

    def planned(self, job_id: str, token: int, hyperparameters: JsonObject, estimated_finish: int) -> None:
        """Write down what was chosen for what the request left open, and when the end is expected."""
        with self._database.writing() as connection:
            self._change(connection, job_id, token, hyperparameters=hyperparameters, estimated_finish=estimated_finish)

    def measured(self, job_id: str, token: int, entries: Sequence[Metrics]) -> None:
        """Publish the figures of steps that were not published before."""
        with self._database.writing() as connection:
            row = connection.execute(_job(job_id)).mappings().one()
            new = [entry for entry in entries if entry.step > row["step"]]
            self._change(connection, job_id, token, step=max([row["step"], *(entry.step for entry in new)]))
            for entry in new:
                say(connection, job_id, entry.message, data=entry.data)

    def publish(self, job_id: str, token: int, step: int, model: str, metrics: JsonObject) -> list[int]:
        """Publish a checkpoint that lies in its place; return the steps of those that this one makes superfluous."""
        with self._database.writing() as connection:
            self._change(connection, job_id, token)
            known = sa.select(checkpoints.c.step).where(checkpoints.c.job_id == job_id)
            steps = sorted(connection.execute(known).scalars())
            if step in steps:
                return []
            connection.execute(
                sa.insert(checkpoints).values(
                    id=new_id("ftckpt_"), job_id=job_id, created_at=now(), step=step, model=model, metrics=metrics
                )
            )
            say(connection, job_id, f"Checkpoint created at step {step}")
            old = sorted([*steps, step])[:-KEPT_CHECKPOINTS]
            gone = sa.and_(checkpoints.c.job_id == job_id, checkpoints.c.step.in_(old))
            connection.execute(sa.delete(checkpoints).where(gone))
            return old

    def succeed(self, job_id: str, token: int, outcome: Outcome) -> None:
        """Publish the tuned model and the result file, and end the job: all of it or nothing."""
        with self._database.writing() as connection:
            self._end(
                connection, job_id, token, "succeeded", fine_tuned_model=outcome.model, result_file=outcome.result.id,
                trained_tokens=outcome.trained_tokens,
            )  # fmt: skip
            insert(connection, outcome.result)
            connection.execute(
                sa.insert(models).values(
                    id=outcome.model, project_id=outcome.result.project_id, job_id=job_id, created_at=now(),
                    base=outcome.base, checkpoint=outcome.checkpoint, package=outcome.package,
                )
            )  # fmt: skip
            say(connection, job_id, f"New fine-tuned model created: {outcome.model}")
            say(connection, job_id, "The job has successfully completed")

    def fail(self, job_id: str, token: int, error: JsonObject, details: Sequence[JsonObject] = ()) -> None:
        """End a job with what went wrong; `details` become events, each with its `message`."""
        with self._database.writing() as connection:
            self._end(connection, job_id, token, "failed", error=error)
            for detail in details:
                say(connection, job_id, str(detail["message"]), "error", data=detail, kind="message")
            say(connection, job_id, f"The job failed: {error['message']}", "error")

    def release(self, job_id: str, token: int) -> None:
        """Give a claim back without having failed, so that another goes on where this one stopped."""
        with self._database.writing() as connection:
            self._change(connection, job_id, token, attempt=jobs.c.attempt - 1, **_NO_LEASE)

    def cancel(self, project_id: str, job_id: str) -> bool:
        """End a job at its owner's wish; whoever works on it finds its claim stale. False when it had ended already."""
        with self._database.writing() as connection:
            mine = sa.and_(jobs.c.id == job_id, jobs.c.project_id == project_id, jobs.c.status.not_in(FINAL))
            change = {"status": "cancelled", "finished_at": now(), "token": jobs.c.token + 1, "estimated_finish": None}
            done = connection.execute(sa.update(jobs).where(mine).values(**change, **_NO_LEASE)).rowcount
            if done:
                say(connection, job_id, "The job was cancelled")
            return bool(done)

    def lost(self) -> list[tuple[Claim, ProcessName | None]]:
        """Give up the claims whose worker is gone or silent; return them with who had them, whatever is left of it.

        Such a job waits for its next attempt, or has failed when it had its last one.
        """
        found: list[tuple[Claim, ProcessName | None]] = []
        with self._database.writing() as connection:
            held = sa.select(jobs).where(jobs.c.lease_until.is_not(None), jobs.c.status.not_in(FINAL))
            for row in connection.execute(held).mappings().all():
                worker = None if row["worker_pid"] is None else ProcessName(row["worker_pid"], row["worker_start"])
                rebooted = row["lease_boot"] != self._boot
                if rebooted or row["lease_until"] < self._clock() or (worker is not None and not is_alive(worker)):
                    phase: Phase = "validate" if row["status"] == "validating_files" else "train"
                    found.append(
                        (Claim(record(JobRecord, jobs, row), row["token"], phase), None if rebooted else worker)
                    )
                    self._give_up(connection, row)
        return found

    def lose(self, job_id: str, token: int) -> None:
        """Give up a claim whose work broke off for no fault of the job; the next attempt may succeed."""
        with self._database.writing() as connection:
            self._change(connection, job_id, token)
            self._give_up(connection, connection.execute(_job(job_id)).mappings().one())

    def free_all(self) -> None:
        """Free every claim, as in a copy of the database, where no worker holds any."""
        with self._database.writing() as connection:
            connection.execute(sa.update(jobs).values(**_NO_LEASE))

    def at_work(self, phase: Phase) -> int:
        """How many jobs of a phase are claimed."""
        held = sa.select(sa.func.count()).where(jobs.c.status.in_(_WAITING[phase]), jobs.c.lease_until.is_not(None))
        with self._database.reading() as connection:
            return int(connection.execute(held).scalar_one())

    def workers(self) -> list[ProcessName]:
        """Return the processes that hold a claim."""
        held = sa.select(jobs.c.worker_pid, jobs.c.worker_start).where(
            jobs.c.lease_until.is_not(None), jobs.c.worker_pid.is_not(None), jobs.c.lease_boot == self._boot
        )
        with self._database.reading() as connection:
            return [ProcessName(pid, start) for pid, start in connection.execute(held)]

    def _give_up(self, connection: sa.Connection, row: sa.RowMapping) -> None:
        job_id, token = str(row["id"]), int(row["token"])
        if row["attempt"] >= MOST_ATTEMPTS:
            message = f"the training process ended without a word {MOST_ATTEMPTS} times, as when memory runs out"
            self._end(
                connection, job_id, token, "failed", error={"code": "worker_lost", "message": message, "param": None}
            )
            say(connection, job_id, f"The job failed: {message}", "error")
            return
        self._change(connection, job_id, token, token=token + 1, **_NO_LEASE)
        say(connection, job_id, "The process that worked on the job is gone; another goes on with it", "warn")

    def _end(self, connection: sa.Connection, job_id: str, token: int, status: Status, **values: object) -> None:
        self._change(
            connection, job_id, token, status=status, finished_at=now(), estimated_finish=None, **values, **_NO_LEASE
        )

    def _change(self, connection: sa.Connection, job_id: str, claim: int, **values: object) -> None:
        """Change a job under a claim; raise Stale, which undoes the transaction, when there is a newer one."""
        mine = sa.and_(jobs.c.id == job_id, jobs.c.token == claim, jobs.c.status.not_in(FINAL))
        if not connection.execute(sa.update(jobs).where(mine).values(**{"token": claim, **values})).rowcount:
            raise Stale(f"the claim {claim} on {job_id} is worth nothing any more; nothing was written.")

    def _lease(self) -> dict[str, object]:
        return {"lease_boot": self._boot, "lease_until": self._clock() + LEASE_SECONDS}


_NO_LEASE: dict[str, object] = {"lease_boot": None, "lease_until": None, "worker_pid": None, "worker_start": None}


def say(
    connection: sa.Connection, job_id: str, message: str, level: Level = "info", data: JsonObject | None = None,
    kind: Literal["message", "metrics"] | None = None,
) -> None:  # fmt: skip
    """Add an event; one with figures is of the kind `metrics`, unless told otherwise."""
    connection.execute(
        sa.insert(events).values(
            id=new_id("ftevent-"), job_id=job_id, created_at=now(), level=level,
            type=kind or ("metrics" if data else "message"), message=message, data=data,
        )
    )  # fmt: skip


def _job(job_id: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(jobs).where(jobs.c.id == job_id)
