"""One job of the server, worked on in a process of its own that outlives the server:

    python -m luthier.recipes.serve DATA JOB TOKEN validate|train

It holds a claim (see `jobs/queue.py`) and renews it. To train, it starts `luthier train` on a resolved file in the
claim's own folder, or `luthier resume` where an earlier claim was cut short, follows the run folder, and publishes what
appears there. Nothing that it does counts but what the database takes under its claim.
"""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import cast

from luthier.config.load import dump
from luthier.config.serving import ServeSettings, parse_serving
from luthier.core.errors import UserError
from luthier.core.hashing import bytes_hash
from luthier.core.rundir import RunDir, write_atomically
from luthier.core.threads import child_environment
from luthier.core.types import JsonObject
from luthier.jobs.attempt import LOG, RUN, SETTINGS, forget_earlier, link_checkpoint, prepare
from luthier.jobs.database import Database
from luthier.jobs.files import Arrived, Files
from luthier.jobs.folder import DataFolder
from luthier.jobs.lease import Lease
from luthier.jobs.processes import start_tethered, this_process
from luthier.jobs.queue import Outcome, Phase, Queue, Stale
from luthier.jobs.records import JobRecord, now
from luthier.jobs.submit import TRAINING, VALIDATION
from luthier.recipes.progress import Tail, as_metrics, at_step, result_csv, trained
from luthier.recipes.training_file import examine
from luthier.recipes.tuning_settings import (
    chosen_hyperparameters,
    job_settings,
    planned_seconds,
    steps_per_epoch,
    threads,
)

TRAINER = "luthier.cli.main"
_RESULT = "step_metrics.csv"
_LOOK_SECONDS = 0.25
_STOP_SECONDS = 8.0
_DISK_FULL = ("No space left", "Disk quota exceeded", "File too large")


class Worker:
    """The work on one claim."""

    def __init__(self, data: Path, job_id: str, token: int, trainer: str = TRAINER) -> None:
        self.folder = DataFolder(data)
        self.database = Database(self.folder.database)
        self.queue = Queue(self.database)
        self.job_id, self.token, self.trainer = job_id, token, trainer
        self.stopped = threading.Event()
        self.serving: ServeSettings = parse_serving(json.loads(self.folder.settings.read_text(encoding="utf-8")))

    def work(self, phase: Phase) -> None:
        """Do what the claim was made for; a claim that is worth nothing any more ends the work without a trace."""
        try:
            job = self.queue.take_over(self.job_id, self.token, this_process())
            with Lease(self.queue, self.job_id, self.token) as lease:
                if phase == "validate":
                    self._validate(job)
                else:
                    _Training(self, job, lease).walk()
        except Stale:
            return

    def _validate(self, job: JobRecord) -> None:
        place = self.folder.job(job.id)
        for param, name in (("training_file", TRAINING), ("validation_file", VALIDATION)):
            if (place / name).exists():
                verdict = examine(place / name, param)
                if verdict.error is not None:
                    self.queue.fail(job.id, self.token, verdict.error, [fault.as_event() for fault in verdict.faults])
                    return
                (place / f"{name}.rows").write_text(str(verdict.num_rows), encoding="utf-8")
        self.queue.queued(job.id, self.token)


class _Training:
    """The training of one claim: its trainer, and what of its folder has been published."""

    def __init__(self, worker: Worker, job: JobRecord, lease: Lease) -> None:
        self.queue, self.folder, self.lease, self.worker = worker.queue, worker.folder, lease, worker
        self.job, self.token = job, worker.token
        self.place = prepare(self.folder, job.id, self.token)
        self.run = RunDir(self.place / RUN)
        self._metrics = Tail(self.run.metrics)
        self._lines: dict[int, JsonObject] = {}
        self._published: set[int] = set()
        self._steps = self._per_epoch = 0

    def walk(self) -> None:
        """Start the trainer, follow it to its end, and conclude."""
        try:
            command = self._command()
        except UserError as error:
            self.queue.fail(self.job.id, self.token, _error("invalid_request", str(error)))
            return
        self.queue.running(self.job.id, self.token, self.job.attempt)
        environment = child_environment(self.worker.serving.job.threads or threads(self.worker.serving))
        trainer = start_tethered(command, self.place / LOG, environment, self.place)
        try:
            while _runs(trainer) and not self.lease.lost.is_set() and not self.worker.stopped.is_set():
                self._follow()
        finally:
            by_us = _stop(trainer)
        if self.lease.lost.is_set():
            return
        self._follow()
        if by_us:
            self.queue.release(self.job.id, self.token)
        else:
            self._conclude(trainer.returncode)

    def _command(self) -> list[str]:
        if self.run.config.exists():
            return [self.worker.trainer, "resume", RUN]
        inputs = self.folder.job(self.job.id)
        num_rows = int((inputs / f"{TRAINING}.rows").read_text(encoding="utf-8"))
        settings = job_settings(self.job, self.worker.serving, inputs, num_rows)
        write_atomically(self.place / SETTINGS, dump(settings).encode())
        return [self.worker.trainer, "train", SETTINGS, "--out", RUN]

    def _follow(self) -> None:
        """Publish what is new in the run folder."""
        if not self._steps and self.run.plan.exists() and self.run.done("plan"):
            self._per_epoch = steps_per_epoch(self.run)
            self._steps = int(str(json.loads(self.run.plan.read_text(encoding="utf-8"))["steps"]))
            estimate = now() + round(planned_seconds(self.run))
            self.queue.planned(self.job.id, self.token, chosen_hyperparameters(self.run, self.job), estimate)
        if not self._steps:
            return
        lines = self._metrics.added()
        self._lines |= {int(str(line["step"])): line for line in lines}
        if entries := as_metrics(lines, self._steps):
            self.queue.measured(self.job.id, self.token, entries)
        for path in sorted(self.run.checkpoints.glob("[0-9]*")):
            self._publish(path)

    def _publish(self, path: Path) -> None:
        step = int(path.name)
        due = step > 0 and (step % self._per_epoch == 0 or step == self._steps)
        if not due or step in self._published or step not in self._lines:
            return
        if not link_checkpoint(self.folder, self.job.id, path):
            return
        self._published.add(step)
        name = f"{tuned_name(self.job)}:ckpt-step-{step}"
        old = self.queue.publish(self.job.id, self.token, step, name, at_step(self._lines[step]))
        for superfluous in old:
            self.folder.throw_away(self.folder.checkpoint(self.job.id, superfluous))
            self.folder.throw_away(self.folder.package(self.job.id, superfluous))

    def _conclude(self, code: int) -> None:
        if code == 0:
            self._succeed()
        elif code in (1, 2):
            self.queue.fail(self.job.id, self.token, _failure(self.place / LOG, code, self.folder))
        else:  # killed from outside, as when memory runs out: no fault of the job
            self.queue.lose(self.job.id, self.token)

    def _succeed(self) -> None:
        ended = trained(self.run)
        best = self.run.checkpoints / f"{int(str(ended['best_step'])):06d}"
        data = result_csv(self.run)
        beside = self.place / _RESULT
        write_atomically(beside, data)
        files = Files(self.worker.database, self.folder)
        arrived = Arrived(beside, _RESULT, len(data), bytes_hash(data))
        outcome = Outcome(
            model=tuned_name(self.job), base=self.job.base,
            checkpoint=str(best.relative_to(self.folder.path)),
            package=str(self.run.package.relative_to(self.folder.path)),
            result=files.place(arrived, self.job.project_id, "fine-tune-results"),
            trained_tokens=int(str(ended["tokens"])),
        )  # fmt: skip
        self.queue.succeed(self.job.id, self.token, outcome)
        forget_earlier(self.folder, self.job.id, self.token)


def tuned_name(job: JobRecord) -> str:
    """Return the name of the model that a job makes, in OpenAI's form; an absent suffix leaves two colons."""
    asked = str(job.request.get("suffix") or "")
    suffix = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in asked)
    base = job.model.split(":")[1] if job.model.startswith("ft:") else job.model
    return f"ft:{base}:luthier:{suffix}:{job.id.removeprefix('ftjob-')[:12]}"


def main() -> None:
    """Work on the claim that the command line names; SIGTERM saves and gives it back."""
    data, job_id, token, phase = sys.argv[1:]
    worker = Worker(Path(data), job_id, int(token))

    def stop(number: int, frame: FrameType | None) -> None:
        worker.stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worker.work(cast(Phase, phase))


def _runs(trainer: subprocess.Popen[bytes]) -> bool:
    try:
        trainer.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _stop(trainer: subprocess.Popen[bytes]) -> bool:
    """End a trainer that still runs, which saves; tell whether it did run."""
    if trainer.poll() is not None:
        return False
    trainer.terminate()
    try:
        trainer.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        trainer.kill()
        trainer.wait()
    return True


def _failure(log: Path, code: int, folder: DataFolder) -> JsonObject:
    """Return what the trainer said last, as the API writes errors; where the server's folder lies is its own affair."""
    said = log.read_text(encoding="utf-8", errors="replace").rpartition("luthier: ")[2].strip()
    message = said.replace(f"{folder.path}/", "")[:2000] or f"the training ended with the code {code}"
    if any(words in message for words in _DISK_FULL):
        return _error("disk_full", message)
    return _error("training_failed" if code == 1 else "invalid_request", message)


def _error(code: str, message: str) -> JsonObject:
    return {"code": code, "message": message, "param": None}


if __name__ == "__main__":
    main()
