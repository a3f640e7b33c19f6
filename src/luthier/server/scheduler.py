"""Hands waiting jobs to worker processes, rescues those whose worker is gone, and removes what has expired.

A thread of the server. The workers are processes of their own; when the server dies they go on, and the next server
finds their leases alive and leaves them alone.
"""

import logging
import os
import signal
import subprocess
import threading
import time

from sqlalchemy.exc import OperationalError

from luthier.core.threads import child_environment
from luthier.jobs.files import Files
from luthier.jobs.folder import DataFolder
from luthier.jobs.processes import is_alive, kill_group, start_apart
from luthier.jobs.queue import Claim, Phase, Queue

log = logging.getLogger(__name__)

WORKER = "luthier.recipes.serve"
RESCUE_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_EXPIRY_SECONDS = 60.0
_STOP_SECONDS = 12.0


class Scheduler:
    """Keeps `workers` trainings going at a time, and one look at files. `module` is what a worker process runs."""

    def __init__(
        self, folder: DataFolder, queue: Queue, files: Files, workers: int, module: str = WORKER,
        rescue_seconds: float = RESCUE_SECONDS,
    ) -> None:  # fmt: skip
        self._folder, self._queue, self._files = folder, queue, files
        self._module, self._rescue_seconds = module, rescue_seconds
        self._slots: dict[Phase, int] = {"validate": 1, "train": workers}
        self._children: list[subprocess.Popen[bytes]] = []
        self._awake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether waiting jobs are being looked after."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; what an earlier server left behind is looked at first."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once, because a job has arrived."""
        self._awake.set()

    def stop(self) -> None:
        """Ask the workers to save and to give their claims back, and wait for them; the next server goes on."""
        self._stopping.set()
        self._awake.set()
        self._thread.join()
        workers = self._queue.workers()
        for worker in workers:
            if is_alive(worker):
                os.kill(worker.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while (any(map(is_alive, workers)) or self._reap()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for worker in workers:
            kill_group(worker)

    def rescue(self) -> int:
        """Take the jobs back whose workers are gone, and end what is left of those; return how many."""
        lost = self._queue.lost()
        for _, worker in lost:
            if worker is not None:
                kill_group(worker)
        return len(lost)

    def _run(self) -> None:
        rescue_due = expiry_due = time.monotonic()
        while not self._stopping.is_set():
            try:
                if time.monotonic() >= rescue_due:
                    self.rescue()
                    rescue_due = time.monotonic() + self._rescue_seconds
                if time.monotonic() >= expiry_due:
                    self._files.remove_expired()
                    expiry_due = time.monotonic() + _EXPIRY_SECONDS
                self._dispatch()
            except (OperationalError, OSError):  # the disk is full or busy, or no process can be made: it may pass
                log.exception("waiting jobs could not be looked after; the next look is in %s s", _LOOK_SECONDS)
            self._awake.wait(_LOOK_SECONDS)
            self._awake.clear()

    def _dispatch(self) -> None:
        self._reap()
        for phase, slots in self._slots.items():
            while self._queue.at_work(phase) < slots:
                claim = self._queue.claim(phase)
                if claim is None:
                    break
                self._children.append(self._started(claim))

    def _started(self, claim: Claim) -> subprocess.Popen[bytes]:
        arguments = [self._module, str(self._folder.path), claim.job.id, str(claim.token), claim.phase]
        log = self._folder.job(claim.job.id) / "worker.log"
        return start_apart(arguments, log, child_environment(1))

    def _reap(self) -> bool:
        """Bury the workers of this server that have ended; tell whether there are others."""
        self._children = [child for child in self._children if child.poll() is None]
        return bool(self._children)
