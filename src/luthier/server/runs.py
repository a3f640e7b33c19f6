"""The finished runs of a folder: models that every project may name, each under the name of its run's folder.

A run counts once its package has the certificate of its proof. The folder is looked through anew for each question, so
that a run which ends beside the server is there at once, and a name is held against what lies there: it never becomes a path.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from luthier.config.load import load
from luthier.config.serving import ServeSettings
from luthier.config.settings import ModelSettings
from luthier.core.errors import RunFolderError, SettingsError, UserError
from luthier.core.hashing import file_hash
from luthier.core.rundir import RUNS, RunDir
from luthier.core.types import JsonObject
from luthier.server.errors import ApiError

log = logging.getLogger(__name__)

_CERTIFICATE = "certificate.json"
_CARD = "README.md"  # written anew with every verdict, and read by people alone
_REMEMBERED = 1024


class Runs:
    """What lies in a folder of runs; None where there is no such folder to look into."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._told: dict[str, str] = {}
        self._sound: dict[str, list[tuple[int, int, int]]] = {}

    def finished(self) -> dict[str, int]:
        """Return the names of the finished runs and when each was proven; why another is left out is logged once."""
        found: dict[str, int] = {}
        for run in self._all():
            try:
                found[run.path.name] = _proven_at(run)
                self._tell(run, "it is a model")
            except (UserError, OSError, ValueError) as error:
                self._tell(run, f"it is no model: {error}")
        return found

    def find(self, name: str) -> RunDir | None:
        """Return a finished run by its name."""
        for run in self._all():
            if run.path.name == name:
                with suppress(UserError, OSError, ValueError):
                    _proven_at(run)
                    return run
        return None

    def check(self, run: RunDir) -> None:
        """Raise ApiError unless the package's files are those that were proven; they are read again when they change."""
        try:
            files = _files(run)
            state = [_state(run.package / name) for name in files]
            if self._sound.get(run.path.name) == state:
                return
            changed = [name for name, wanted in files.items() if file_hash(run.package / name) != wanted]
            if changed:
                raise RunFolderError(f"package/{changed[0]} is not the file that was proven")
        except (OSError, ValueError) as error:
            log.error("%s cannot be served: %s. Make the package anew: luthier export %s", run.path, error, run.path)
            message = f"The model {run.path.name!r} cannot be loaded; the server's log says why."
            raise ApiError(503, message, param="model", code="model_unavailable") from error
        self._sound[run.path.name] = state

    def _all(self) -> Iterator[RunDir]:
        if self._folder is None or not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if path.name.isprintable() and not path.name.startswith(".") and RunDir(path).config.is_file():
                yield RunDir(path)

    def _tell(self, run: RunDir, fate: str) -> None:
        if self._told.get(run.path.name) != fate:
            self._told[run.path.name] = fate
            log.info("the run %s: %s", run.path, fate)


def runs_of(serving: ServeSettings) -> Runs:
    """Return the runs that the settings name; raise SettingsError for a folder that is not there."""
    if serving.runs is None:
        return Runs(RUNS.absolute())
    if not serving.runs:
        return Runs(None)
    folder = Path(serving.runs).absolute()
    if not folder.is_dir():
        raise SettingsError(f"runs: {folder} is no folder. Name the folder that holds the runs, or leave it out.")
    return Runs(folder)


def base_of(run: RunDir) -> ModelSettings:
    """Return which model a run was made from; raise SettingsError where its settings cannot be read."""
    return _base(run.config, run.config.stat().st_mtime_ns)


@lru_cache(_REMEMBERED)
def _base(config: Path, changed: int) -> ModelSettings:
    """Read the settings once for each time that they were written; `changed` is when."""
    return load([config]).model


def _proven_at(run: RunDir) -> int:
    """Return when a run's package was proven; raise what it lacks to be a model."""
    certificate = run.package / _CERTIFICATE
    if not certificate.is_file():
        raise RunFolderError("its package has not been made and proven yet")
    base_of(run)
    gone = [name for name in _files(run) if not (run.package / name).is_file()]
    if gone:
        raise RunFolderError(f"package/{gone[0]} is gone")
    return int(certificate.stat().st_mtime)


def _files(run: RunDir) -> dict[str, str]:
    """Return the hashes of the package's files, as its certificate has them."""
    certificate: JsonObject = json.loads((run.package / _CERTIFICATE).read_text(encoding="utf-8"))
    files = certificate.get("files") if isinstance(certificate, dict) else None
    if not isinstance(files, dict) or not files:
        raise RunFolderError(f"package/{_CERTIFICATE} names no files")
    return {str(name): str(wanted) for name, wanted in files.items() if name != _CARD}


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
