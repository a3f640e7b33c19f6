"""Back up a server's data folder while the server runs, and put a backup in the place of a folder that is lost.

The database is copied first, in one state; then the bytes that this state names. A deletion takes the row away before the
bytes, so bytes that are missing belong to a row that is gone meanwhile too, and the copy forgets it: the backup is the
folder as it was at one instant, but for what was deleted while it was made. Jobs that have not ended are kept with their
inputs and published checkpoints, and train anew after a restore; runs outside the data folder are not in it.
"""

import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from luthier.core.errors import ProofFailed, RunFolderError
from luthier.core.hashing import file_hash
from luthier.core.rundir import sync_folder, write_json
from luthier.core.types import JsonObject
from luthier.jobs.batches import Batches
from luthier.jobs.database import Database
from luthier.jobs.folder import DataFolder
from luthier.jobs.opening import opened
from luthier.jobs.queue import Queue
from luthier.jobs.tables import checkpoints, files, jobs

MANIFEST = "backup.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a backup holds, or what a restore has brought back."""

    path: Path
    num_files: int
    num_jobs: int
    num_bytes: int

    def as_json(self) -> JsonObject:
        """Return it as an object."""
        return {"path": str(self.path), "files": self.num_files, "jobs": self.num_jobs, "bytes": self.num_bytes}

    def as_text(self) -> str:
        """Return it as a sentence."""
        return f"{self.path}: {self.num_files} files, {self.num_jobs} jobs, {self.num_bytes:,} bytes, each byte checked"


def backup(data: Path, target: Path) -> Kept:
    """Copy the data folder of a server, which may be running, to a new folder, and check the copy.

    Raise RunFolderError when there is no data folder or `target` is taken, ProofFailed when bytes are not those that the
    database speaks of.
    """
    source = DataFolder(data)
    if not source.database.is_file():
        raise RunFolderError(
            f"{data} is not a server's data folder: it has no {source.database.name}. Name its --data."
        )
    live = Database(source.database)
    try:
        with _arriving(target) as place:
            return _copied(live, source, DataFolder(place), target)
    finally:
        live.close()


def restore(target: Path, data: Path) -> Kept:
    """Put a backup in the place of a data folder, which must be absent or empty; every byte is checked first."""
    hashes = _manifest(target)
    wrong = [name for name, digest in hashes.items() if not _is(target / name, digest)]
    if wrong:
        raise ProofFailed(
            f"{target} is damaged: {', '.join(wrong[:5])} ({len(wrong)} in all) are not what was backed up. "
            "Nothing was restored; take another backup."
        )
    with _arriving(data) as place:
        folder = DataFolder(place)
        folder.create()
        for name in hashes:
            _copy(target / name, place / name)
        return _counted(folder, data)


def _copied(live: Database, source: DataFolder, copy: DataFolder, target: Path) -> Kept:
    copy.create()
    live.copy_to(copy.database)
    with opened(copy) as database:
        Queue(database).free_all()
        _copy_files(live, database, source, copy)
        _copy_jobs(live, database, source, copy)
        _copy_batches(database, source, copy)
    for path in (source.settings, source.first_key):
        if path.exists():
            _copy(path, copy.path / path.name)
    kept = _counted(copy, target)
    hashes = {str(path.relative_to(copy.path)): file_hash(path) for path in _all(copy.path)}
    write_json(copy.path / MANIFEST, {"sha256": dict(sorted(hashes.items()))})
    return kept


def _copy_files(live: Database, database: Database, source: DataFolder, copy: DataFolder) -> None:
    with database.reading() as connection:
        wanted = connection.execute(sa.select(files.c.id, files.c.sha256)).all()
    for file_id, digest in wanted:
        try:
            _copy(source.file(file_id), copy.file(file_id))
        except FileNotFoundError:
            _forget(live, database, files, file_id)
        else:
            if not _is(copy.file(file_id), digest):
                raise ProofFailed(
                    f"{source.file(file_id)} is damaged: its SHA-256 is not {digest}. No backup was made."
                )


def _copy_jobs(live: Database, database: Database, source: DataFolder, copy: DataFolder) -> None:
    """Copy inputs, the attempts that made a model, and published checkpoints.

    The attempt of a job that trains changes under our hands, and nobody can reach what a failed one left.
    """
    with database.reading() as connection:
        known = connection.execute(sa.select(jobs.c.id, jobs.c.token, jobs.c.status)).all()
        published = connection.execute(sa.select(checkpoints.c.id, checkpoints.c.job_id, checkpoints.c.step)).all()
    for job_id, token, status in known:
        for path in sorted(source.job(job_id).iterdir()):
            if path.is_file() and not path.name.startswith("."):
                _copy(path, copy.job(job_id) / path.name)
        if status == "succeeded":
            _copy_folder(source.attempt(job_id, token), copy.attempt(job_id, token))
    for checkpoint_id, job_id, step in published:
        place = copy.checkpoint(job_id, step)
        try:
            _copy_folder(source.checkpoint(job_id, step), place)
        except FileNotFoundError:
            shutil.rmtree(place, ignore_errors=True)
            _forget(live, database, checkpoints, checkpoint_id)


def _copy_batches(database: Database, source: DataFolder, copy: DataFolder) -> None:
    """Copy the requests of unfinished batches, and what has been answered; a line that is cut short is asked again."""
    for batch in Batches(database, copy, 0).unfinished():
        for path in sorted(source.batch(batch.id).iterdir()):
            _copy(path, copy.batch(batch.id) / path.name)


def _forget(live: Database, database: Database, table: sa.Table, row_id: str) -> None:
    """Take out of the copy what was deleted while it was made; raise ProofFailed for what was lost otherwise."""
    row = table.c.id == row_id
    with live.reading() as connection:
        if connection.execute(sa.select(table.c.id).where(row)).first() is not None:
            raise ProofFailed(f"{row_id} is in the database, and its bytes are not in the folder. No backup was made.")
    with database.writing() as connection:
        connection.execute(sa.delete(table).where(row))


def _counted(folder: DataFolder, path: Path) -> Kept:
    """Open a folder as a server does, and count what is in it."""
    with opened(folder) as database, database.reading() as connection:
        num_files, num_jobs = (
            int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
            for table in (files, jobs)
        )
    return Kept(path, num_files, num_jobs, sum(found.stat().st_size for found in _all(folder.path)))


@contextmanager
def _arriving(target: Path) -> Generator[Path]:
    """Give a folder beside `target` that takes its place at the end of the block, whole or not at all."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunFolderError(
            f"{target} is not empty, and must be absent or empty. Choose another folder, or move it away."
        )
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.arriving")
    shutil.rmtree(beside, ignore_errors=True)  # a backup that was killed leaves it
    try:
        yield beside
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    sync_folder(target.parent)


def _manifest(target: Path) -> dict[str, str]:
    try:
        found = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{target} is not a backup: it has no {MANIFEST}. Name a folder that `luthier backup` made."
        ) from error
    return {str(name): str(digest) for name, digest in found["sha256"].items()}


def _copy_folder(source: Path, target: Path) -> None:
    for path in _all(source):
        _copy(path, target / path.relative_to(source))


def _copy(source: Path, target: Path) -> None:
    """Copy a file and force it onto the disk; nobody but its owner may read the copy."""
    with source.open("rb") as read:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with target.open("wb") as written:
            os.fchmod(written.fileno(), 0o600)
            shutil.copyfileobj(read, written, 1 << 20)
            written.flush()
            os.fsync(written.fileno())


def _all(folder: Path) -> list[Path]:
    """Every file of a folder, in order; raise FileNotFoundError when there is no such folder."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and file_hash(path) == digest
