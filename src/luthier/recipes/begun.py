"""A folder that one command fills in several walks: the same command goes on in it, another is refused."""

import json
from pathlib import Path

from luthier.core.errors import RunFolderError
from luthier.core.rundir import write_json
from luthier.core.types import JsonObject

ASKED = "asked.json"


def begin(folder: Path, request: JsonObject) -> None:
    """Make the folder and note what was asked for; raise RunFolderError where something else lies or was begun there."""
    noted = folder / ASKED
    if noted.exists():
        before = json.loads(noted.read_text(encoding="utf-8"))
        other = [key for key in request if before.get(key) != request[key]]
        if other:
            raise RunFolderError(
                f"{folder} was begun with another {other[0]}; give the same again, or choose another --out."
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(f"{folder} is not empty; choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(noted, request)
