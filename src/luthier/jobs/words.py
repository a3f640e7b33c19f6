"""Keys as people and programs read them."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from luthier.core.types import JsonObject
from luthier.jobs.records import KeyRecord, now


def as_json(keys: Sequence[KeyRecord]) -> list[JsonObject]:
    """Return the keys as JSON; times are UTC seconds."""
    return [asdict(key) for key in keys]


def as_lines(keys: Sequence[KeyRecord]) -> str:
    """Return the keys as text, a line each."""
    if not keys:
        return "no keys yet; make one with: luthier keys create"
    return "\n".join(
        f"{key.id}  {key.project:12}  ...{key.hint}  made {_day(key.created_at)}  last used {_day(key.last_used_at)}"
        f"{_end(key)}  {key.name}".rstrip()
        for key in keys
    )


def _end(key: KeyRecord) -> str:
    if key.revoked_at is not None:
        return "  REVOKED"
    if key.expires_at is None:
        return ""
    return f"  ends {_day(key.expires_at)}" if key.is_valid(now()) else "  EXPIRED"


def _day(seconds: int | None) -> str:
    return "never     " if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
