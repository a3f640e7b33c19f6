"""Checkpoints: whole or not there, whatever happens to the process or to the files."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.errors import ResourceError, RunFailed
from luthier.train import checkpoint

TENSORS = {"master.a": torch.arange(6, dtype=torch.float32).view(2, 3), "step.a": torch.tensor(3.0)}
FILES = ("tensors.safetensors", "state.json", "MANIFEST.json")


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save(
            folder, step, {name: tensor + step for name, tensor in TENSORS.items()}, {"step": step, "seconds": 0.5}
        )


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path, 7)
    found = checkpoint.load(tmp_path / "000007")
    assert (found.step, found.state) == (7, {"step": 7, "seconds": 0.5})
    assert set(found.tensors) == set(TENSORS)
    assert all(torch.equal(found.tensors[name], tensor + 7) for name, tensor in TENSORS.items())
    assert sorted(path.name for path in (tmp_path / "000007").iterdir()) == sorted(FILES)


def test_the_newest_counts_by_number_not_by_name(tmp_path):
    save(tmp_path, 2, 999_999, 1_000_000)
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, complaints) == (1_000_000, [])


def test_an_empty_folder_has_none(tmp_path):
    assert checkpoint.newest(tmp_path) == (None, [])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete", "grow"])
def test_damage_is_found_the_older_one_is_used_and_the_file_named(tmp_path, file, damage):
    save(tmp_path, 1, 2)
    hurt(tmp_path / "000002" / file, damage, place=5)
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(complaints) == 1
    assert file in complaints[0] or "MANIFEST.json" in complaints[0]
    with pytest.raises(RunFailed, match="000002"):
        checkpoint.load(tmp_path / "000002")


@settings(max_examples=60, deadline=None)
@given(file=st.sampled_from(FILES), place=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found_or_changes_nothing(tmp_path_factory, file, place, bit):
    folder = tmp_path_factory.mktemp("bits")
    save(folder, 1, 2)
    path = folder / "000002" / file
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    found, complaints = checkpoint.newest(folder)
    assert found is not None
    if found.step == 2:  # a bit of the manifest's white space
        assert not complaints
        assert all(torch.equal(found.tensors[name], tensor + 2) for name, tensor in TENSORS.items())
    else:
        assert len(complaints) == 1


def test_files_of_another_step_are_found(tmp_path):
    save(tmp_path, 1, 2)
    for file in FILES:
        (tmp_path / "000002" / file).write_bytes((tmp_path / "000001" / file).read_bytes())
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "another checkpoint" in complaints[0]


def test_a_manifest_that_lists_too_little_is_not_believed(tmp_path):
    save(tmp_path, 1)
    manifest = tmp_path / "000001" / "MANIFEST.json"
    listed = json.loads(manifest.read_text())
    del listed["files"]["state.json"]
    manifest.write_text(json.dumps(listed))
    assert checkpoint.newest(tmp_path)[0] is None


def test_retention_keeps_the_newest_and_the_best(tmp_path):
    save(tmp_path, *range(1, 8))
    checkpoint.retain(tmp_path, keep=2, best_step=3)
    assert [path.name for path in checkpoint.steps_on_disk(tmp_path)] == ["000003", "000006", "000007"]


def test_drop_newer_makes_room_for_the_steps_to_be_written_again(tmp_path):
    save(tmp_path, 1, 2, 3)
    checkpoint.drop_newer(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]


@pytest.mark.parametrize("kind", ["kill", "no space", "input/output"])
def test_dying_at_every_file_operation_of_saving_leaves_a_verified_checkpoint(tmp_path, kind):
    """The first, second, ... file operation of save and retain is the last, until the writer survives."""
    save(tmp_path, 1, 2)
    deaths = 0
    for operation in range(1, 40):
        if _die_at(operation, kind, tmp_path, step=3):
            break
        deaths += 1
        found, complaints = checkpoint.newest(tmp_path)
        assert found is not None
        assert found.step in (2, 3)
        assert not complaints
        checkpoint.clean(tmp_path)
        checkpoint.drop_newer(tmp_path, 2)
        assert not list(tmp_path.glob(".*"))
        if not (tmp_path / "000001").exists():
            save(tmp_path, 1)
    assert deaths >= 8
    assert [path.name for path in checkpoint.steps_on_disk(tmp_path)] == ["000002", "000003"]


def hurt(path: Path, damage: str, place: int) -> None:
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
        return
    if damage == "flip":
        data[place] ^= 1
    changed = {"flip": data, "truncate": data[: len(data) // 2], "empty": b"", "grow": data + b"\0"}[damage]
    path.write_bytes(changed)


def _die_at(operation: int, kind: str, folder: Path, step: int) -> bool:
    """Save in a child process that dies at its n-th file operation; return whether it lived."""
    child = os.fork()
    if child == 0:
        _fail_at(operation, kind)
        try:
            save(folder, step)
            checkpoint.retain(folder, keep=2, best_step=None)
        except (OSError, ResourceError):
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _fail_at(operation: int, kind: str) -> None:
    """Count the calls that change the disk, and make the n-th fail."""
    done = 0

    def counted(real):
        def call(*arguments, **options):
            nonlocal done
            done += 1
            if done == operation:
                if kind == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                number = errno.ENOSPC if kind == "no space" else errno.EIO
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        return call

    for name in ("fsync", "rename", "mkdir", "rmdir", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
