"""Files: bytes in the data folder under their ids, and a row each.

A file is there once its row is: the bytes are in their place before the row is written, and the row is gone before the
bytes are. What a killed server leaves in between has no row and is removed at the next start.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from luthier.core.rundir import sync_folder
from luthier.jobs.database import Database
from luthier.jobs.folder import DataFolder
from luthier.jobs.records import FileRecord, Page, new_id, now, page, record
from luthier.jobs.tables import files, jobs

_STRAY_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Arrived:
    """Bytes that have arrived whole and lie on the disk, forced there, at `path`."""

    path: Path
    filename: str
    bytes: int
    sha256: str


class Files:
    """The files of all projects; every question names the project that asks."""

    def __init__(self, database: Database, folder: DataFolder, stray_seconds: int = _STRAY_SECONDS) -> None:
        self._database, self._folder, self._stray_seconds = database, folder, stray_seconds

    def keep(self, arrived: Arrived, project_id: str, purpose: str, expires_after: int | None = None) -> FileRecord:
        """Take arrived bytes in as a new file."""
        made = self.place(arrived, project_id, purpose, expires_after)
        with self._database.writing() as connection:
            return replace(made, number=insert(connection, made))

    def place(self, arrived: Arrived, project_id: str, purpose: str, expires_after: int | None = None) -> FileRecord:
        """Move arrived bytes to where a new file belongs; it counts once its row is inserted."""
        made = FileRecord(
            0, new_id("file-"), project_id, arrived.filename, purpose, arrived.bytes, arrived.sha256, now(),
            now() + expires_after if expires_after else None,
        )  # fmt: skip
        arrived.path.rename(self._folder.file(made.id))
        sync_folder(self._folder.files)
        return made

    def find(self, project_id: str, file_id: str) -> FileRecord | None:
        """Return a project's file; None when it has none of this id, or its time has passed."""
        wanted = sa.select(files).where(_alive(project_id), files.c.id == file_id)
        with self._database.reading() as connection:
            row = connection.execute(wanted).mappings().first()
        return None if row is None else record(FileRecord, files, row)

    def listed(
        self, project_id: str, after: int | None, limit: int, *, purpose: str | None, ascending: bool
    ) -> Page[FileRecord]:
        """Return one page of a project's files."""
        wanted = sa.select(files).where(_alive(project_id))
        if purpose is not None:
            wanted = wanted.where(files.c.purpose == purpose)
        with self._database.reading() as connection:
            return page(connection, FileRecord, files, wanted, after, limit, ascending=ascending)

    def stored_bytes(self, project_id: str) -> int:
        """How much a project's files take."""
        wanted = sa.select(sa.func.coalesce(sa.func.sum(files.c.bytes), 0)).where(files.c.project_id == project_id)
        with self._database.reading() as connection:
            return int(connection.execute(wanted).scalar_one())

    def delete(self, project_id: str, file_id: str) -> bool:
        """Delete a project's file; tell whether there was one. Jobs keep what they have read from it."""
        with self._database.writing() as connection:
            gone = connection.execute(sa.delete(files).where(_alive(project_id), files.c.id == file_id)).rowcount
        if gone:
            self._folder.file(file_id).unlink(missing_ok=True)
        return bool(gone)

    def remove_expired(self) -> int:
        """Delete the files whose time has passed; return how many."""
        with self._database.writing() as connection:
            ids = connection.execute(sa.select(files.c.id).where(files.c.expires_at <= now())).scalars().all()
            connection.execute(sa.delete(files).where(files.c.id.in_(ids)))
        for file_id in ids:
            self._folder.file(str(file_id)).unlink(missing_ok=True)
        return len(ids)

    def remove_strays(self) -> None:
        """Remove bytes and job folders that no row speaks of, which a killed server left.

        Young ones stay: a worker of that server may be about to write their row.
        """
        with self._database.reading() as connection:
            known = {str(name) for name in connection.execute(sa.select(files.c.id)).scalars()}
            known_jobs = {str(name) for name in connection.execute(sa.select(jobs.c.id)).scalars()}
        for path in self._folder.files.iterdir():
            if path.stem not in known and path.stat().st_ctime < now() - self._stray_seconds:
                path.unlink()
        for path in self._folder.jobs.iterdir():
            if path.name not in known_jobs:
                path.rename(self._folder.trash / path.name)


def insert(connection: sa.Connection, made: FileRecord) -> int:
    """Write the row of a file that lies in its place; return its number."""
    values = asdict(made)
    del values["number"]
    key = connection.execute(sa.insert(files).values(**values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _alive(project_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(files.c.project_id == project_id, sa.or_(files.c.expires_at.is_(None), files.c.expires_at > now()))
