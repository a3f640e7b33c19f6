"""The files that a batch ends with: its journals, published under names of their own."""

import os
from pathlib import Path

from luthier.core.hashing import file_hash
from luthier.core.types import JsonObject
from luthier.jobs.batches import ERRORS, OUTPUT
from luthier.jobs.files import Arrived, Files
from luthier.jobs.folder import DataFolder
from luthier.jobs.records import BatchRecord, FileRecord

PURPOSE = "batch_output"


def place_results(files: Files, folder: DataFolder, batch: BatchRecord) -> tuple[FileRecord | None, FileRecord | None]:
    """Put the answers and the errors of a batch where files belong; None for a journal without a line.

    They count once their rows are inserted. The journals keep their own names, so that a server that is killed before
    that ends the batch again.
    """
    seconds = _kept_seconds(batch.request)
    placed: list[FileRecord | None] = []
    for name, shown in ((OUTPUT, "output"), (ERRORS, "error")):
        journal = folder.batch(batch.id) / name
        if not journal.stat().st_size:
            placed.append(None)
            continue
        beside = _linked(journal, folder.incoming / f"{batch.id}-{shown}")
        arrived = Arrived(beside, f"{batch.id}_{shown}.jsonl", beside.stat().st_size, file_hash(beside))
        placed.append(files.place(arrived, batch.project_id, PURPOSE, seconds))
    output, errors = placed
    return output, errors


def _kept_seconds(request: JsonObject) -> int | None:
    wanted = request.get("output_expires_after")
    return int(str(wanted["seconds"])) if isinstance(wanted, dict) else None


def _linked(source: Path, target: Path) -> Path:
    target.unlink(missing_ok=True)
    os.link(source, target)
    return target
