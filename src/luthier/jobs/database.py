"""The database: SQLite with every write on disk before it counts, and its schema brought up to date.

Later PostgreSQL can stand behind the same class; nothing outside this module knows which it is, except that times of
leases come from the one machine.
"""

import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from luthier.core.errors import RunFolderError

_BUSY_SECONDS = 30
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "glusterfs", "lustre"}


def journal_mode(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """Return WAL where SQLite is free of the bug that can corrupt a WAL database (sqlite.org/wal.html), else TRUNCATE."""
    mended = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return "WAL" if mended else "TRUNCATE"


class Database:
    """Connections to one database file; transactions that write are one after another."""

    def __init__(self, path: Path) -> None:
        _refuse_network(path)
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_SECONDS})
        self._writer = threading.Lock()
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)

    @contextmanager
    def writing(self) -> Generator[sa.Connection]:
        """Give a transaction that holds the write lock from its first statement; commit at the end."""
        with (
            self._writer,
            self._engine.connect().execution_options(luthier_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """Give a transaction that sees one state of the database."""
        with self._engine.connect() as connection:
            yield connection

    def check(self) -> None:
        """Raise RunFolderError when the file is damaged."""
        with self.reading() as connection:
            said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if said != "ok":
            raise RunFolderError(
                f"{self._engine.url.database} is damaged: {said}. Put the last backup in its place, or move it away."
            )

    def copy_to(self, path: Path) -> None:
        """Write one state of the database to a new file, while others go on reading and writing."""
        with (
            closing(sqlite3.connect(str(self._engine.url.database), timeout=_BUSY_SECONDS)) as source,
            closing(sqlite3.connect(path)) as copy,
        ):
            source.backup(copy)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _prepare(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver would begin transactions by itself, and too late
    for pragma in (f"journal_mode={journal_mode()}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("luthier_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _refuse_network(path: Path) -> None:
    """SQLite's locks do not hold on network file systems."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return
    places = [line.split()[1:3] for line in mounts.read_text(encoding="utf-8").splitlines()]
    under = [(place, kind) for place, kind in places if path.absolute().is_relative_to(place)]
    kind = max(under, key=lambda found: len(found[0]), default=("", ""))[1]
    if kind in _NETWORK:
        raise RunFolderError(f"{path} lies on a network file system ({kind}); choose a --data folder on a local disk.")
