"""API keys: 256 random bits, stored as their SHA-256, each for one project.

A plain hash is enough: there is nothing to guess in a random key. The comparison takes place in the database's index
over hashes, where the time taken tells nothing about a key, and once more with `compare_digest`.
"""

import hmac
import secrets

import sqlalchemy as sa

from luthier.core.errors import SettingsError, nearest
from luthier.core.hashing import text_hash
from luthier.jobs.database import Database
from luthier.jobs.records import KeyRecord, new_id, now
from luthier.jobs.tables import keys, projects

DEFAULT_PROJECT = "default"
_PREFIX = "sk-luthier-"
_USED_SECONDS = 60
_DAY_SECONDS = 24 * 3600


class Keys:
    """The keys of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def mint(self, project: str = DEFAULT_PROJECT, name: str = "", days: int | None = None) -> tuple[str, KeyRecord]:
        """Make a key for a project, which is made when it is new; return the secret, which is shown only now.

        After `days` it opens nothing; without them it goes on until it is revoked.
        """
        if not project or not all(letter.isalnum() or letter in "-_" for letter in project) or len(project) > 40:
            raise SettingsError(f"the project {project!r} needs a name of up to 40 letters, digits, - and _.")
        secret = _PREFIX + secrets.token_urlsafe(32)
        made_at = now()
        entry = {
            "id": new_id("key_"), "name": name, "hint": secret[-4:], "created_at": made_at,
            "expires_at": None if days is None else made_at + days * _DAY_SECONDS,
        }  # fmt: skip
        with self._database.writing() as connection:
            project_id = _project(connection, project)
            connection.execute(sa.insert(keys).values(**entry, project_id=project_id, hash=text_hash(secret)))
        (made,) = [key for key in self.listed() if key.id == entry["id"]]
        return secret, made

    def listed(self) -> list[KeyRecord]:
        """Return all keys, the revoked ones too, oldest first."""
        wanted = sa.select(keys, projects.c.name.label("project")).join(projects).order_by(keys.c.created_at, keys.c.id)
        with self._database.reading() as connection:
            return [_record(row) for row in connection.execute(wanted).mappings()]

    def revoke(self, key_id: str) -> None:
        """Make a key worthless; raise SettingsError when there is none of this id."""
        known = [key.id for key in self.listed()]
        if key_id not in known:
            raise SettingsError(
                f"there is no key {key_id!r}.{nearest(key_id, known)} List them with: luthier keys list"
            )
        with self._database.writing() as connection:
            connection.execute(
                sa.update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now())
            )

    def any_valid(self) -> bool:
        """Tell whether there is a key that opens anything."""
        return any(key.is_valid(now()) for key in self.listed())

    def holder(self, secret: str) -> KeyRecord | None:
        """Return the valid key with this secret, noting its use to the minute; None when there is none."""
        digest = text_hash(secret)
        wanted = sa.select(keys, projects.c.name.label("project")).join(projects).where(keys.c.hash == digest)
        with self._database.reading() as connection:
            row = connection.execute(wanted).mappings().first()
        if row is None or not hmac.compare_digest(str(row["hash"]), digest):
            return None
        key = _record(row)
        if not key.is_valid(now()):
            return None
        if now() - (key.last_used_at or 0) >= _USED_SECONDS:
            with self._database.writing() as connection:
                connection.execute(sa.update(keys).where(keys.c.id == key.id).values(last_used_at=now()))
        return key


def _project(connection: sa.Connection, name: str) -> str:
    found = connection.execute(sa.select(projects.c.id).where(projects.c.name == name)).scalar()
    if found is not None:
        return str(found)
    made = new_id("proj_")
    connection.execute(sa.insert(projects).values(id=made, name=name, created_at=now()))
    return made


def _record(row: sa.RowMapping) -> KeyRecord:
    return KeyRecord(
        row["id"], row["project_id"], row["project"], row["name"], row["hint"], row["created_at"], row["last_used_at"],
        row["revoked_at"], row["expires_at"],
    )  # fmt: skip
