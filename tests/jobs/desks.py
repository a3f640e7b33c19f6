"""A data folder with a database, a project and a file, as the tests of the queue need them."""

import json
from dataclasses import dataclass
from pathlib import Path

from luthier.core.hashing import file_hash
from luthier.core.types import JsonObject
from luthier.jobs.database import Database
from luthier.jobs.files import Arrived, Files
from luthier.jobs.folder import DataFolder
from luthier.jobs.keys import Keys
from luthier.jobs.queue import Claim, Phase, Queue
from luthier.jobs.records import FileRecord, JobRecord
from luthier.jobs.schema import migrate
from luthier.jobs.submit import Jobs, Submission


@dataclass
class Bench:
    """Everything over one data folder."""

    folder: DataFolder
    database: Database
    keys: Keys
    files: Files
    jobs: Jobs
    queue: Queue
    project: str

    def submission(self, file: FileRecord, **changes: object) -> Submission:
        """Return what a client would ask for."""
        request: JsonObject = {"model": "starter", "training_file": file.id}
        values: dict[str, object] = {
            "project_id": self.project, "request": request, "model": "starter", "base": "starter", "seed": 1,
            "training_file": file.id, "validation_file": None, "hyperparameters": {"n_epochs": "auto"},
        }  # fmt: skip
        return Submission(**{**values, **changes})  # type: ignore[arg-type]

    def claimed(self, phase: Phase) -> Claim:
        """Claim the next job, which must be there."""
        claim = self.queue.claim(phase)
        assert claim is not None
        return claim

    def queued_job(self, file: FileRecord, seed: int = 1) -> JobRecord:
        """Return a job whose files have been looked at."""
        job = self.jobs.create(self.submission(file, seed=seed))
        claim = self.claimed("validate")
        assert claim.job.id == job.id
        self.queue.queued(job.id, claim.token)
        return job

    def now(self, job: JobRecord) -> JobRecord:
        """Return what a job is now."""
        found = self.jobs.find(self.project, job.id)
        assert found is not None
        return found


def bench(path: Path, queue: Queue | None = None, database: Database | None = None) -> Bench:
    """Make a data folder at `path`, or open the one that is there."""
    folder = DataFolder(path)
    folder.create()
    database = database or Database(folder.database)
    migrate(database)
    keys = Keys(database)
    projects = {key.project_id for key in keys.listed()} or {keys.mint()[1].project_id}
    (project,) = projects
    return Bench(
        folder, database, keys, Files(database, folder), Jobs(database, folder, 1000), queue or Queue(database), project
    )


def rows(count: int = 12) -> bytes:
    """Training rows in OpenAI's form."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Where is parcel {n}?"},
                {"role": "assistant", "content": "shipping"},
            ]
        }
        for n in range(count)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def uploaded(desk: Bench, data: bytes | None = None, expires_after: int | None = None) -> FileRecord:
    """Take bytes in as a file for fine-tuning."""
    path = desk.folder.incoming / "arriving"
    path.write_bytes(rows() if data is None else data)
    arrived = Arrived(path, "train.jsonl", path.stat().st_size, file_hash(path))
    return desk.files.keep(arrived, desk.project, "fine-tune", expires_after)
