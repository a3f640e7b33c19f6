"""The folder that one claim works in. It goes on where the attempt before it stopped, without touching that one's files.

Files that are written once, and replaced by renaming, are linked; journals, which grow, are copied. So two trainers, of
which one was thought dead, never write to the same file.
"""

import os
import shutil
from pathlib import Path

from luthier.core.rundir import RunDir, sync_folder
from luthier.jobs.folder import DataFolder

RUN, SETTINGS, LOG = "run", "settings.yaml", "log.txt"
_GROWING = (".jsonl", ".txt")


def prepare(folder: DataFolder, job_id: str, token: int) -> Path:
    """Make the folder of a claim, with the run of the newest attempt before it; return it."""
    place = folder.attempt(job_id, token)
    place.mkdir(mode=0o700, exist_ok=True)
    before = [path for path in attempts(folder, job_id) if int(path.name) < token and _has_run(path)]
    if before:
        shutil.copytree(before[-1] / RUN, place / RUN, copy_function=_link_or_copy, ignore=_left_out)
    return place


def attempts(folder: DataFolder, job_id: str) -> list[Path]:
    """The folders of a job's claims, oldest first."""
    return sorted(path for path in folder.job(job_id).glob("[0-9]*") if path.is_dir())


def forget_earlier(folder: DataFolder, job_id: str, token: int) -> None:
    """Remove the folders of the claims before this one, whose work it has taken over."""
    for path in attempts(folder, job_id):
        if int(path.name) < token:
            shutil.rmtree(path)


def link_checkpoint(folder: DataFolder, job_id: str, source: Path) -> bool:
    """Give a training's checkpoint a second name that outlasts its retention; False when it is gone already.

    Every attempt writes the same bytes for a step, so one that is there already is left as it is.
    """
    place = folder.checkpoint(job_id, int(source.name))
    if place.exists():
        return True
    place.parent.mkdir(mode=0o700, exist_ok=True)
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        shutil.copytree(source, beside, copy_function=_link)
    except (FileNotFoundError, shutil.Error):  # retention took it meanwhile
        shutil.rmtree(beside, ignore_errors=True)
        return False
    beside.rename(place)
    sync_folder(place.parent)
    return True


def _has_run(path: Path) -> bool:
    return RunDir(path / RUN).config.exists()


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What is half written, and the package: it is made again."""
    return {name for name in names if name.startswith(".") or name == "package"}


def _link_or_copy(source: str, target: str) -> None:
    if source.endswith(_GROWING):
        shutil.copyfile(source, target)
    else:
        _link(source, target)


def _link(source: str, target: str) -> None:
    os.link(source, target)
