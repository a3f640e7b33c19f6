"""Checkpoints that survive a kill at any instant, hold no pickle, and are never half there.

`checkpoints/<step>/` is written under a temporary name, every file forced to disk, `MANIFEST.json`
(sizes, SHA-256) last, then renamed. Loading takes the newest folder whose manifest verifies.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from luthier.compat.rust_errors import system_errors
from luthier.core.disk import room_for
from luthier.core.errors import RunFailed
from luthier.core.hashing import file_hash
from luthier.core.rundir import sync_folder
from luthier.core.types import JsonObject

MANIFEST = "MANIFEST.json"
_TENSORS = "tensors.safetensors"
_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: `tensors` are the optimizer's, `state` the loop's integers and the fingerprint."""

    path: Path
    step: int
    tensors: dict[str, torch.Tensor]
    state: JsonObject


def save(folder: Path, step: int, tensors: Mapping[str, torch.Tensor], state: JsonObject) -> Path:
    """Write `checkpoints/<step>`; a folder of that name that is there already is left as it is.

    Raises ResourceError where the disk has no room; nothing half written then stays behind.
    """
    final = folder / f"{step:06d}"
    if final.exists():
        return final
    before = steps_on_disk(folder)
    safe = f"Everything up to checkpoint {before[-1].name} is safe. " if before else ""
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    beside = folder / f".tmp-{step:06d}-{os.getpid()}"
    with room_for(f"checkpoint {final.name}", folder, num_bytes=num_bytes, safe=safe), system_errors():
        try:
            _write(beside, step, tensors, state)
            beside.rename(final)
            sync_folder(folder)
        except (OSError, SafetensorError):
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return final


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that verifies, and a sentence for each newer one that did not."""
    complaints: list[str] = []
    for path in reversed(steps_on_disk(folder)):
        problem = _problem(path)
        if problem is None:
            return _read(path), complaints
        complaints.append(problem)
    return None, complaints


def load(path: Path) -> Checkpoint:
    """Read one checkpoint; raise RunFailed naming the file that does not match its manifest."""
    problem = _problem(path)
    if problem is not None:
        raise RunFailed(problem)
    return _read(path)


def drop_newer(folder: Path, step: int) -> None:
    """Remove the checkpoints after `step`: they did not verify, and the run will write these steps again."""
    for path in steps_on_disk(folder):
        if int(path.name) > step:
            _remove(path)


def clean(folder: Path) -> None:
    """Remove what a killed process left half written or half deleted."""
    for pattern in (".tmp-*", ".trash-*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path)


def retain(folder: Path, keep: int, best_step: int | None) -> None:
    """Keep the newest `keep` checkpoints and the best one; delete the others by renaming them first."""
    for path in steps_on_disk(folder)[:-keep]:
        if int(path.name) != best_step:
            _remove(path)


def steps_on_disk(folder: Path) -> list[Path]:
    """The checkpoint folders, oldest first."""
    return sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), key=lambda path: int(path.name))


def _write(beside: Path, step: int, tensors: Mapping[str, torch.Tensor], state: JsonObject) -> None:
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, beside / _TENSORS)
    (beside / _STATE).write_text(json.dumps(state, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    files: JsonObject = {}
    for name in (_TENSORS, _STATE):
        _sync_file(beside / name)
        files[name] = {"bytes": (beside / name).stat().st_size, "sha256": file_hash(beside / name)}
    manifest: JsonObject = {"step": step, "files": files}
    (beside / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    _sync_file(beside / MANIFEST)
    sync_folder(beside)


def _remove(path: Path) -> None:
    trash = path.with_name(f".trash-{path.name}")
    path.rename(trash)
    shutil.rmtree(trash)


def _read(path: Path) -> Checkpoint:
    state: JsonObject = json.loads((path / _STATE).read_text(encoding="utf-8"))
    return Checkpoint(path, int(path.name), load_file(path / _TENSORS), state)


def _problem(path: Path) -> str | None:
    """Say what is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        listed = manifest["files"].items()
        for name, facts in listed:
            file = path / name
            if not file.is_file() or file.stat().st_size != facts["bytes"] or file_hash(file) != facts["sha256"]:
                return f"{file} does not match {path / MANIFEST}; this checkpoint is not used."
        if manifest["step"] != int(path.name) or {_TENSORS, _STATE} - set(manifest["files"]):
            return f"{path / MANIFEST} belongs to another checkpoint; this one is not used."
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{path / MANIFEST} cannot be read ({error}); this checkpoint is not used."
    return None


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
