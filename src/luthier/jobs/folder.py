"""The server's data folder: the only module that knows the names in it, and the lock that keeps a second server out.

luthier.db               the database
engines.log              what the processes that answer have complained about
api_key                  the key that was minted at the first start, readable by its owner alone
files/<file id>.jsonl    uploads and results, named by their ids
jobs/<job id>/<token>/   one attempt of a job: its settings, its log, its run folder
batches/<batch id>/      the requests of a batch, and the answers to them while it is worked on
incoming/, trash/        uploads that are still arriving; what is about to be deleted
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from luthier.core.errors import RunFolderError
from luthier.jobs.processes import boot_id


class DataFolder:
    """Names what lies in the folder; nobody but its owner may look into it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "luthier.db"
        self.settings = self.path / "serve.json"
        self.first_key = self.path / "api_key"
        self.engine_log = self.path / "engines.log"
        self.files = self.path / "files"
        self.jobs = self.path / "jobs"
        self.batches = self.path / "batches"
        self.incoming = self.path / "incoming"
        self.trash = self.path / "trash"

    def create(self) -> None:
        """Make what is missing."""
        for folder in (self.path, self.files, self.jobs, self.batches, self.incoming, self.trash):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    def file(self, file_id: str) -> Path:
        """Where the bytes of a file lie."""
        return self.files / f"{file_id}.jsonl"

    def job(self, job_id: str) -> Path:
        """The folder of a job, with its inputs and a folder for each attempt."""
        return self.jobs / job_id

    def attempt(self, job_id: str, token: int) -> Path:
        """The folder that one claim of a job works in; no other claim writes there."""
        return self.job(job_id) / f"{token:06d}"

    def checkpoint(self, job_id: str, step: int) -> Path:
        """Where a published checkpoint lies."""
        return self.job(job_id) / "checkpoints" / f"{step:06d}"

    def package(self, job_id: str, step: int) -> Path:
        """Where the weights of a published checkpoint lie in the form in which they answer, once they were asked to."""
        return self.job(job_id) / "packages" / f"{step:06d}"

    def batch(self, batch_id: str) -> Path:
        """The folder of a batch: its input under a name of its own, and what has been answered."""
        return self.batches / batch_id

    def throw_away(self, path: Path) -> None:
        """Remove a folder by renaming it first, so that nobody meets half of it."""
        if path.exists():
            path = path.rename(self.trash / f"{path.name}-{secrets.token_hex(4)}")
            shutil.rmtree(path, ignore_errors=True)  # a server that starts empties the trash too

    def empty_leftovers(self) -> None:
        """Remove uploads that never arrived and deletions that were cut short."""
        for folder in (self.incoming, self.trash):
            for path in folder.iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold the folder for this server; raise RunFolderError naming the holder if another has it."""
        with (self.path / ".lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise RunFolderError(
                    f"{self.path} is in use by the server with process id {lock.read().partition(' ')[0] or 'unknown'}; "
                    "stop it first, or choose another --data."
                ) from error
            lock.truncate(0)
            lock.write(f"{os.getpid()} {boot_id()}")
            lock.flush()
            yield
