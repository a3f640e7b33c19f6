"""Bring a database to the newest schema: the old one or the new one at any instant, and never backwards."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from luthier.core.errors import RunFolderError
from luthier.jobs.database import Database

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Run the migrations that are missing, all in one transaction; raise RunFolderError for a newer database."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    known = ScriptDirectory.from_config(config)
    with database.writing() as connection:
        now = MigrationContext.configure(connection).get_current_revision()
        if now == known.get_current_head():
            return
        if now is not None and now not in {script.revision for script in known.walk_revisions()}:
            raise RunFolderError(
                f"the database has the schema {now!r}, which this version of Luthier does not know. "
                "It was used by a newer one; go on with that version."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
