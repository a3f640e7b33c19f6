"""General rows beside those of the task: one half is held out to measure forgetting, the other can be replayed in training.

A general row whose question stands in a part that judges the task, or which is a row of the task, is left out: it would be
trained and asked.
"""

from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Literal

from luthier.config.settings import DataSettings
from luthier.core.errors import DataError, SettingsError
from luthier.core.hashing import derived_seed
from luthier.core.types import PARTS, Conversation, Rejected, Row
from luthier.data.nearest import nearest_likeness
from luthier.data.normal import content_key, normalized, question, text_key
from luthier.data.read import ensure_usable, read
from luthier.data.store import RowWriter, read_stored
from luthier.models.load import STARTER
from luthier.recipes.job import Job

SAMPLE, NONE = "sample", "none"
Side = Literal["general", "replay"]
KNOWN = "in-the-task"


def general_rows(job: Job) -> None:
    """Choose `data.general` where it is open, read the rows, and write `data/general.parquet` and `data/replay.parquet`."""
    settings = job.settings
    if settings.data.general is None:
        job.resolve({"data.general": SAMPLE if settings.model.name == STARTER and not settings.model.init else NONE})
    source = job.settings.data.general
    if source == NONE:
        if settings.train.replay:
            raise SettingsError(
                "train.replay is above 0 and there are no general rows to replay; name some with data.general."
            )
        return
    if not settings.train.replay and not job.run.is_whole_road():
        return  # nobody will ask
    known = _of_the_task(job)
    kept: dict[Side, list[Row]] = {"general": [], "replay": []}
    left_out = Counter[str]()
    for row, clash in _without_overlap(job, _read(job), known):
        if clash:
            left_out[KNOWN] += 1
        else:
            kept[side_of(row)].append(row)
    for side, rows in kept.items():
        if not rows:
            raise DataError(
                f"data.general: {source} has too few rows of its own: half of them are held out to measure forgetting, the other "
                "half can be replayed. Give more rows."
            )
        with RowWriter(job.run.general(side)) as writer:
            for row in rows:
                writer.write(row)
    job.run.event(
        "general_read", held_out=len(kept["general"]), to_replay=len(kept["replay"]), left_out=left_out.total()
    )


def side_of(row: Row) -> Side:
    """Return whether a general row is held out or can be replayed; it depends on its content alone, so that runs can be compared."""
    return "general" if derived_seed("general", content_key(row)) % 2 else "replay"


def _read(job: Job) -> Iterator[Row]:
    source = job.settings.data.general
    path = Path(str(files("luthier.starter") / "general.jsonl")) if source == SAMPLE else source
    rejected, bad, rows = Counter[str](), [], 0
    for row in read(str(path), DataSettings(), job.voice.say):
        if isinstance(row, Rejected):
            rejected[row.rule] += 1
            bad.append(row)
        else:
            rows += 1
            yield row
    ensure_usable(rows, rejected, DataSettings(path=str(path)), bad[:3])


def _of_the_task(job: Job) -> set[str | bytes]:
    return {key for part in PARTS for row in job.rows(part) for key in _keys(row)}


def _without_overlap(job: Job, rows: Iterator[Row], known: set[str | bytes]) -> Iterator[tuple[Row, bool]]:
    """Yield each row with whether it is one of the task's, or nearly asks what a held-out row asks."""
    found = list(rows)
    judging = [question(row) for part in ("validation", "test") for row in job.rows(part)]
    near_R = nearest_likeness([question(row) for row in found], judging) >= min(1.0, job.settings.split.near_duplicate)
    for row, near in zip(found, near_R.tolist(), strict=True):
        yield row, near or not known.isdisjoint(_keys(row))


def _keys(row: Row) -> tuple[str | bytes, ...]:
    asked = text_key(normalized(question(row)))
    return (row.id, content_key(row), asked) if isinstance(row.content, Conversation) else (row.id, content_key(row))


def stored(job: Job, side: Side) -> list[Row]:
    """Return the general rows of one side; none where there are none."""
    path = job.run.general(side)
    return list(read_stored(path)) if path.exists() else []
