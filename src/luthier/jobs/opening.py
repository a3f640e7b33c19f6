"""Open a data folder: its database with the newest schema, for the server and for the commands beside it."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from luthier.jobs.database import Database
from luthier.jobs.folder import DataFolder
from luthier.jobs.keys import Keys
from luthier.jobs.schema import migrate


@contextmanager
def opened(folder: DataFolder) -> Generator[Database]:
    """Open the database of a data folder with the newest schema; raise RunFolderError when it is damaged."""
    database = Database(folder.database)
    try:
        migrate(database)
        database.check()
        folder.database.chmod(0o600)
        yield database
    finally:
        database.close()


@contextmanager
def opened_keys(data: Path) -> Generator[Keys]:
    """Open the keys of a data folder, beside a server that may be running."""
    folder = DataFolder(data)
    folder.create()
    with opened(folder) as database:
        yield Keys(database)
