"""A full disk: said in one sentence, nothing half written, and the training goes on once there is room.

The limit that a process may set on its files' size (RLIMIT_FSIZE) and /dev/full make the system itself refuse.
"""

import errno
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_training import new_run, resolved, train, weights_of

from luthier.compat.rust_errors import system_errors
from luthier.core.disk import room_for
from luthier.core.errors import ResourceError
from luthier.core.journal import Journal, entries
from luthier.train import checkpoint


@contextmanager
def files_of_at_most(num_bytes: int) -> Generator[None]:
    """Let the system refuse to write files beyond this size, with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_journal_on_a_full_disk_says_so_and_closes():
    said = r"a line cannot be written to /dev/full: No space left .* MiB are free"
    with pytest.raises(ResourceError, match=said), Journal(Path("/dev/full")) as journal:
        journal.write({"step": 1})


def test_a_line_that_was_cut_off_by_the_disk_is_dropped_when_the_journal_is_opened_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with files_of_at_most(40), pytest.raises(ResourceError, match=r"metrics\.jsonl"), Journal(path) as journal:
        for step in range(9):
            journal.write({"step": step})
    whole = list(entries(path))
    assert path.stat().st_size == 40 and whole == [{"step": step} for step in range(len(whole))]
    with Journal(path) as journal:
        journal.write({"step": len(whole)})
    assert [entry["step"] for entry in entries(path)] == list(range(len(whole) + 1))


def test_a_checkpoint_without_room_names_what_it_takes_and_what_is_safe(tmp_path):
    tensors = {"master.a": torch.zeros(1 << 18)}
    checkpoint.save(tmp_path, 400, tensors, {})
    with files_of_at_most(1 << 16), pytest.raises(ResourceError) as refusal:
        checkpoint.save(tmp_path, 500, tensors, {})
    message = str(refusal.value)
    for words in ("checkpoint 000500", str(tmp_path), "It takes 1.0 MiB", "MiB are free", "up to checkpoint 000400 is safe", "luthier resume"):  # fmt: skip
        assert words in message
    assert [path.name for path in tmp_path.iterdir()] == ["000400"], "what is half written would take the room"
    checkpoint.save(tmp_path, 500, tensors, {})
    found, complaints = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, complaints) == (500, [])


def test_a_training_that_met_a_full_disk_ends_in_the_undisturbed_bytes(tmp_path):
    whole, torn = new_run(tmp_path / "whole"), new_run(tmp_path / "torn")
    train(whole.path, resolved())
    masters_alone = (whole.checkpoints / "000012" / "tensors.safetensors").stat().st_size // 2
    with files_of_at_most(masters_alone), pytest.raises(ResourceError, match="up to checkpoint 000000 is safe"):
        train(torn.path, resolved())
    train(torn.path, resolved())
    assert torn.metrics.read_bytes() == whole.metrics.read_bytes()
    assert weights_of(torn, 12) == weights_of(whole, 12)


def test_other_errors_of_the_system_pass(tmp_path):
    with pytest.raises(FileNotFoundError), room_for("a file", tmp_path):
        (tmp_path / "none").read_bytes()


def test_a_full_disk_is_known_behind_safetensors(tmp_path):
    from safetensors.torch import save_file

    with files_of_at_most(100), pytest.raises(OSError) as refusal, system_errors():
        save_file({"a": torch.zeros(1000)}, tmp_path / "a.safetensors")
    assert refusal.value.errno == errno.EFBIG
