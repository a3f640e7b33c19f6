"""The ledger of looks: how often test rows were opened, over all runs in a folder.

Whoever looks at a test often enough finds a model that is good on it by luck. One line for each look is appended to
`looks.jsonl` beside the runs, in one write that needs no lock, so runs that end at the same instant both stand in it.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from luthier.core.errors import RunFolderError
from luthier.core.types import JsonObject, JsonValue

LOOKS = "looks.jsonl"


def look(runs: Path, test: str, looker: str, facts: JsonObject) -> int:
    """Enter that `looker` opens the test rows with the content hash `test`; return how many looks there are by now.

    `runs` is the folder that holds the runs. The same looker counts once: a run that goes on after a stop looks no
    second time. Raises RunFolderError where the folder cannot be written.
    """
    path = runs / LOOKS
    before = {str(entry["looker"]) for entry in _entries(path) if entry["test"] == test}
    if looker in before:
        return len(before)
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    _append(path, {"time": stamp, "test": test, "looker": looker, **facts})
    return len(before | {looker})


def _append(path: Path, entry: JsonObject) -> None:
    line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            written = os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written ({error.strerror}), and a look at the test must be entered there. "
            "Make its folder writable, or move the run to one that is."
        ) from error
    if written < len(line):
        raise RunFolderError(f"{path} has no room for another line; make room on its disk and run the command again.")


def _entries(path: Path) -> list[JsonObject]:
    """Return the whole lines; one that a full disk has cut is passed over."""
    if not path.is_file():
        return []
    found: list[JsonObject] = []
    for line in path.read_bytes().splitlines():
        try:
            entry: JsonValue = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "test" in entry and "looker" in entry:
            found.append(entry)
    return found
