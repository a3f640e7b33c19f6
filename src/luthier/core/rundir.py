"""The run folder: the only module that knows the names of its files. See docs/run-folder.md."""

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from luthier.core.errors import RunFolderError
from luthier.core.journal import Journal, entries
from luthier.core.types import JsonObject, JsonValue, Part

RUNS = Path("runs")
STAGES = ("read", "split", "check", "plan", "train", "compare", "export", "report")


class RunDir:
    """A run is a folder; this names what lies in it and remembers which stages are done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.env = path / "env.json"
        self.plan = path / "plan.json"
        self.ledger = path / "ledger.parquet"
        self.findings = path / "findings.json"
        self.data = path / "data"
        self.assignment = self.data / "assignment.parquet"
        self.certificate = self.data / "split.json"
        self.rejected = self.data / "rejected.jsonl"
        self.metrics = path / "metrics.jsonl"
        self.timings = path / "timings.jsonl"
        self.events = path / "events.jsonl"
        self.log = path / "log.txt"
        self.checkpoints = path / "checkpoints"
        self.answers = path / "answers"
        self.choices = path / "choices.json"
        self.verdict = path / "verdict.json"
        self.outlook = path / "outlook.json"
        self.forgetting = path / "forgetting.json"
        self.report = path / "report.html"
        self.card = path / "card.md"
        self.package = path / "package"

    def part(self, part: Part) -> Path:
        """The rows of one part, as Parquet."""
        return self.data / f"{part}.parquet"

    @property
    def sequences(self) -> Path:
        """The training part as token sequences; derived, may be deleted."""
        return self.data / "train.sequences.safetensors"

    def read_rows(self, origin: str) -> Path:
        """The usable rows of one source (`data`, `test`, `validation`) before the split, as Parquet."""
        return self.data / f"read-{origin}.parquet"

    def general(self, side: str) -> Path:
        """General rows beside the task's, held out (`general`) or to be replayed (`replay`), as Parquet."""
        return self.data / f"{side}.parquet"

    def arm_answers(self, arm: str) -> Path:
        """Every graded answer of one arm, as Parquet."""
        return self.answers / f"{arm}.parquet"

    def arm_progress(self, arm: str) -> Path:
        """The answers of an arm that is still running, as JSON lines."""
        return self.answers / f"{arm}.partial.jsonl"

    def arm_choosing(self, arm: str, candidate: str) -> Path:
        """What one way of asking answered to validation rows while an arm chooses, as JSON lines; `*` is all of them."""
        return self.answers / f"{arm}.choosing-{candidate}.jsonl"

    def event(self, kind: str, **facts: JsonValue) -> None:
        """Append to events.jsonl what happened, with its UTC time."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        with Journal(self.events) as journal:
            journal.write({"time": stamp, "event": kind, **facts})
            journal.sync()

    def empty(self) -> None:
        """Remove everything that lies in the folder."""
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def done(self, stage: str) -> bool:
        """Tell whether a stage has finished in this folder."""
        return any(entry["event"] == "stage_done" and entry["stage"] == stage for entry in entries(self.events))

    def is_whole_road(self) -> bool:
        """Tell whether this run was started to go on beyond the weights, to verdict and report."""
        roads = [entry["road"] for entry in entries(self.events) if entry["event"] == "started"]
        return not roads or "compare" in str(roads[0])

    def mark_done(self, stage: str) -> None:
        """Record that a stage has finished; everything it wrote must be on disk already."""
        assert stage in STAGES, stage
        self.event("stage_done", stage=stage)

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold the folder for this process; raise RunFolderError naming the holder if another has it."""
        lock = (self.path / ".lock").open("a+")
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFolderError(
                    f"{self.path} is in use by process {_holder(lock) or 'unknown'}; wait for it or stop it first."
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield
        finally:
            lock.close()


def create(out: Path | None, name: str) -> RunDir:
    """Make a new run folder at `out`, or at `runs/<date>-<name>-<random>`.

    `out` must be absent or hold no file: the empty folders of a run that was killed at its very start do no harm.
    """
    if out is None:
        out = fresh_path(name)
    if out.exists() and (not out.is_dir() or any(not path.is_dir() for path in out.rglob("*"))):
        raise RunFolderError(
            f"{out} is not empty, and a run folder must be absent or empty. "
            f"Choose another --out, or go on with the run that lies there: luthier resume {out}"
        )
    run = RunDir(out)
    try:
        for folder in (run.path, run.data, run.checkpoints, run.answers):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"the run folder {out} cannot be made: {error.strerror}. Choose another --out.") from error
    return run


def fresh_path(name: str) -> Path:
    """Return the path of a new folder beside the runs: `runs/<date>-<name>-<random>`."""
    return RUNS / f"{datetime.now(UTC):%Y-%m-%d}-{name}-{secrets.token_hex(2)}"


def open_run(path: Path) -> RunDir:
    """Open an existing run folder; raise RunFolderError if `path` is none."""
    run = RunDir(path)
    if not run.config.exists():
        raise RunFolderError(f"{path} is not a run folder: it has no config.yaml. List runs with: luthier runs")
    return run


def write_json(path: Path, value: JsonObject) -> None:
    """Write JSON so that the file is the old one or the new one at any instant."""
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Write bytes beside `path`, force them to disk, then rename into place."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with beside.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    beside.rename(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Force a folder's entries onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holder(lock: TextIO) -> str:
    """Return the process that a lock file names; it may have taken the lock and not yet written its number."""
    for _ in range(100):
        lock.seek(0)
        if holder := lock.read().strip():
            return holder
        time.sleep(0.01)
    return ""
