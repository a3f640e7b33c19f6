"""The verdict of a run, as its file holds it."""

import json

from luthier.core.errors import RunFolderError
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject


def read_verdict(run: RunDir) -> JsonObject:
    """Return verdict.json; raise RunFolderError when the run has none yet."""
    if not run.verdict.exists():
        raise RunFolderError(f"{run.path} has no verdict yet; go on with: luthier resume {run.path}")
    return json.loads(run.verdict.read_text(encoding="utf-8"))
