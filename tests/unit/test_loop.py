"""The training loop: exact resume, what is cut away and passed over, and what it refuses."""

import math
import os
import signal

import pytest
import torch
from loops import FINGERPRINT, Killed, events, killing_at, losses, same, steps_saved
from tiny_training import (
    new_run,
    resolved,
    train,
    trainer_of,
)

from luthier.core.errors import RunFailed, RunFolderError, Stopped
from luthier.core.journal import entries
from luthier.data.loader import TREES
from luthier.train import checkpoint
from luthier.train.loop import Progress, is_finite
from luthier.train.state import Validation


def test_the_loss_falls_and_the_journal_has_every_step_once(straight):
    assert [entry["step"] for entry in entries(straight.metrics)] == list(range(1, 13))
    values = [float.fromhex(loss) for loss in losses(straight)]
    assert values[-1] < values[0]
    assert 5 < values[0] < 8
    assert [entry["step"] for entry in entries(straight.timings)] == list(range(1, 13))
    assert sum(entry["trained"] for entry in list(entries(straight.metrics))[:3]) > 0


@pytest.mark.parametrize("layout", ["packed", "padded", "tree", "cached_tree"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_killed_after_every_step_it_ends_in_the_same_bytes(tmp_path, method, layout):
    """Dropout, accumulation and the order of rows are all in play; checkpoints lie at every step."""
    shared = 40 if layout in TREES else 0
    lora = {"rank": 4, "alpha": 8, "dropout": 0 if shared else 0.2}
    settings = resolved(method=method, layout=layout, lora=lora, steps=6, checkpoint_seconds=1e6)
    whole = new_run(tmp_path / "whole")
    train(whole.path, settings, shared=shared)
    for last in range(1, 6):
        torn = new_run(tmp_path / f"torn-{last}")
        with pytest.raises(Killed):
            train(torn.path, settings, watch=killing_at(last), shared=shared)
        train(torn.path, settings, shared=shared)
        same(whole, torn, step=6)


@pytest.mark.parametrize("layout", TREES)
def test_a_tree_keeps_the_course_and_computes_less(tmp_path, layout):
    courses, processed, trained = [], [], []
    for one in ("padded", layout):
        run = new_run(tmp_path / one)
        train(run.path, resolved(layout=one, batch_tokens=600, micro_tokens=500), shared=40)
        journal = list(entries(run.metrics))
        courses.append([float.fromhex(loss) for loss in losses(run)])
        processed.append(sum(entry["processed"] for entry in journal) / sum(entry["tokens"] for entry in journal))
        trained.append([entry["trained"] for entry in journal])
    assert courses[1] == pytest.approx(courses[0], rel=1e-3)
    assert trained[1] == trained[0]
    assert processed[1] < 0.7 < 1 <= processed[0]


def test_a_chain_of_kills_ends_in_the_same_bytes(tmp_path, straight):
    run = new_run(tmp_path / "run")
    for step in (1, 3, 4, 8, 9, 12):
        with pytest.raises(Killed):
            train(run.path, resolved(), watch=killing_at(step))
    train(run.path, resolved())
    same(straight, run)
    assert len(events(run, "resumed")) == 6


def test_a_finished_training_is_not_repeated(tmp_path):
    first = train(tmp_path / "run", resolved())
    run = new_run(tmp_path / "run")
    before = run.metrics.read_bytes()
    again = train(run.path, resolved())
    assert (again.steps, again.best_step, again.tokens) == (first.steps, first.best_step, first.tokens)
    assert run.metrics.read_bytes() == before


def test_a_torn_line_and_lines_behind_the_checkpoint_are_cut_away(tmp_path, straight):
    run = new_run(tmp_path / "run")
    with pytest.raises(Killed):
        train(run.path, resolved(), watch=killing_at(7))
    with run.metrics.open("ab") as stream:
        stream.write(b'{"step": 8, "loss": "0x1.8')
    train(run.path, resolved())
    same(straight, run)


def test_a_journal_shorter_than_the_checkpoint_says_is_refused(tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(Killed):
        train(run.path, resolved(), watch=killing_at(7))
    run.metrics.write_bytes(run.metrics.read_bytes()[:40])
    with pytest.raises(RunFolderError, match="has 40 bytes"):
        train(run.path, resolved())


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_passed_over_written_again_and_named(tmp_path, straight, file, damage):
    run = new_run(tmp_path / "run")
    with pytest.raises(Killed):
        train(run.path, resolved(), watch=killing_at(7))
    newest = checkpoint.steps_on_disk(run.checkpoints)[-1]
    data = bytearray((newest / file).read_bytes())
    data[len(data) // 2] ^= 4
    (newest / file).write_bytes(data if damage == "flip" else data[:-20])
    if damage == "delete":
        (newest / file).unlink()
    train(run.path, resolved())
    same(straight, run)
    assert file in events(run, "warn")[0]["detail"]
    assert events(run, "resumed")[-1]["step"] == int(newest.name) - 1


def test_a_changed_fingerprint_is_refused_field_by_field(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path / "run", resolved(), watch=killing_at(3), fingerprint=FINGERPRINT)
    changed = {"torch": "3", "settings": {"train": {"lr": 0.1, "steps": 24}}}
    with pytest.raises(RunFolderError) as refusal:
        train(tmp_path / "run", resolved(), fingerprint=changed)
    assert "torch: '2' then, '3' now" in str(refusal.value)
    assert "settings.train.steps: 12 then, 24 now" in str(refusal.value)
    assert "train.lr" not in str(refusal.value)
    train(tmp_path / "run", resolved(), fingerprint=FINGERPRINT)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_stops(tmp_path, straight, number, code):
    def watch(progress: Progress) -> None:
        if progress.step == 5:
            os.kill(os.getpid(), number)

    run = new_run(tmp_path / "run")
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="after step 5 of 12") as stopped:
        train(run.path, resolved(checkpoint_seconds=1e6), watch=watch)
    assert stopped.value.exit_code == code
    assert signal.getsignal(number) is before
    assert steps_saved(run)[-1] == 5
    train(run.path, resolved(checkpoint_seconds=1e6))
    same(straight, run)


def test_a_loss_that_is_not_finite_stops_naming_step_and_rows(tmp_path):
    run = new_run(tmp_path / "run")
    trainer = trainer_of(run, resolved(lr=1e30, warmup=0.0))
    with pytest.raises(RunFailed, match=r"step \d+ .*row-\d+"):
        trainer.train({}, None, lambda progress: None)
    found, _ = checkpoint.newest(run.checkpoints)
    assert found is not None
    assert all(torch.isfinite(tensor).all() for tensor in found.tensors.values())
    assert all(math.isfinite(float.fromhex(loss)) for loss in losses(run))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_move(tmp_path, value):
    run = new_run(tmp_path / "run")
    trainer = trainer_of(run, resolved())
    weight = trainer.policy.stock.model.layers[0].mlp.down_proj.weight
    weight.register_hook(lambda gradient: gradient * value)
    before = weight.detach().clone()
    with pytest.raises(RunFailed, match=r"the gradient of step 1 is .*row-"):
        trainer.train({}, None, lambda progress: None)
    assert torch.equal(weight, before)
    assert steps_saved(run) == [0]


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    run = new_run(tmp_path / "run")
    trainer = trainer_of(run, resolved())

    def spoil(progress: Progress) -> None:
        if progress.step == 4:
            trainer.optimizer.masters["model.norm.weight"].data[0] = math.inf

    with pytest.raises(RunFailed, match=r"after step 4 master\.model\.norm\.weight"):
        trainer.train({}, None, spoil)
    assert steps_saved(run)[-1] == 3


def test_a_validation_that_is_not_finite_stops(tmp_path):
    with pytest.raises(RunFailed, match="validation loss after step 2"):
        train(tmp_path / "run", resolved(validate_every=2), validate=lambda: Validation(math.nan, 0.0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_none_is_found_among_many(value):
    fine = torch.linspace(-1, 1, 1000)
    sick = fine.clone()
    sick[500] = value
    for dtype in (torch.float32, torch.bfloat16):
        assert is_finite(fine.to(dtype)) and not is_finite(sick.to(dtype))
    assert is_finite(torch.empty(0)) and is_finite(torch.arange(9, dtype=torch.uint8))
