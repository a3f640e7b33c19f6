"""The training loop: exact resume, early stopping, what it refuses, and the effect of every setting."""

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from tiny_training import (
    new_run,
    policy_of,
    resolved,
    tiny_model,
    train,
    trainer_of,
    weights_of,
)

from luthier.core.errors import RunFailed, RunFolderError, SettingsError, Stopped
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.data.loader import TREES
from luthier.train import checkpoint
from luthier.train.loop import Progress
from luthier.train.state import Validation

FINGERPRINT = {"torch": "2", "settings": {"train": {"lr": 0.1, "steps": 12}}}


class Killed(Exception):
    """Stands for the end of the process at that point."""


def losses(run: RunDir) -> list[str]:
    return [str(entry["loss"]) for entry in entries(run.metrics)]


def steps_saved(run: RunDir) -> list[int]:
    return [int(path.name) for path in checkpoint.steps_on_disk(run.checkpoints)]


def events(run: RunDir, kind: str) -> list[dict]:
    return [entry for entry in entries(run.events) if entry["event"] == kind]


def same(one: RunDir, other: RunDir, step: int = 12) -> None:
    assert one.metrics.read_bytes() == other.metrics.read_bytes()
    assert weights_of(one, step) == weights_of(other, step)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("runs") / "straight")
    train(run.path, resolved())
    return run


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


def killing_at(step: int):
    def watch(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return watch


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


def test_validation_runs_when_due_and_the_best_checkpoint_stays(tmp_path):
    script = iter([5.0, 4.0, 4.5, 4.5, 4.4, 4.6])
    run = new_run(tmp_path / "run")
    outcome = train(run.path, resolved(validate_every=2, keep=2), validate=lambda: Validation(next(script), 0.0))
    assert (outcome.best_step, outcome.best_loss, outcome.stopped_early) == (4, 4.0, False)
    assert [entry["step"] for entry in entries(run.metrics) if "validation_loss" in entry] == [2, 4, 6, 8, 10, 12]
    assert steps_saved(run) == [4, 11, 12]


def test_patience_stops_early_and_a_kill_right_then_changes_nothing(tmp_path):
    course = {2: 5.0, 4: 4.0, 6: 4.5, 8: 4.5}
    run = new_run(tmp_path / "run")
    trainer = trainer_of(run, resolved(validate_every=2, patience=2))
    outcome = trainer.train({}, lambda: Validation(course[trainer._state.step], 0.0), lambda progress: None)
    assert (outcome.steps, outcome.best_step, outcome.stopped_early) == (8, 4, True)
    before = run.metrics.read_bytes()
    again = trainer_of(run, resolved(validate_every=2, patience=2)).train(
        {}, lambda: Validation(0.0, 0.0), lambda progress: None
    )
    assert (again.steps, again.best_step, again.stopped_early) == (8, 4, True)
    assert run.metrics.read_bytes() == before


def rising():
    return (Validation(float(loss), 0.0) for loss in range(100)).__next__


def test_patience_zero_never_stops_early(tmp_path):
    outcome = train(tmp_path / "run", resolved(validate_every=1, patience=0), validate=rising())
    assert (outcome.steps, outcome.best_step, outcome.stopped_early) == (12, 1, False)


def test_the_last_weights_serve_where_the_settings_say_so(tmp_path):
    settings = resolved(validate_every=1, patience=0, weights="last")
    outcome = train(tmp_path / "run", settings, validate=rising())
    assert (outcome.steps, outcome.best_step, outcome.best_loss) == (12, 12, 0.0)


@pytest.mark.parametrize(("weights", "best", "stops"), [("loss", 2, 6), ("answers", 6, 10)])
def test_right_answers_or_the_loss_decide_which_weights_serve_and_when_patience_ends(tmp_path, weights, best, stops):
    script = iter([(1.0, 0.5), (2.0, 0.5), (3.0, 0.75), (4.0, 0.75), (2.5, 0.7), (9.0, 0.6)])
    settings = resolved(validate_every=2, patience=2, weights=weights)
    run = new_run(tmp_path / "run")
    outcome = train(run.path, settings, validate=lambda: Validation(*next(script)))
    assert (outcome.best_step, outcome.steps) == (best, stops)
    rights = [float.fromhex(entry["validation_right"]) for entry in entries(run.metrics) if "validation_right" in entry]
    assert rights == [0.5, 0.5, 0.75, 0.75, 0.7][: stops // 2]


def test_dropout_acts_in_training_and_not_in_validation(tmp_path):
    modes = []
    settings = resolved(method="lora", lora={"rank": 4, "alpha": 8, "dropout": 0.5}, validate_every=6)
    trainer = trainer_of(new_run(tmp_path / "run"), settings)
    trainer.train(
        {}, lambda: modes.append(trainer.policy.model.training) or Validation(1.0, 0.0), lambda progress: None
    )
    assert modes == [False, False]
    plain = new_run(tmp_path / "plain")
    train(plain.path, resolved(method="lora", lora={"rank": 4, "alpha": 8, "dropout": 0.0}))
    dropped = new_run(tmp_path / "dropped")
    train(dropped.path, resolved(method="lora", lora={"rank": 4, "alpha": 8, "dropout": 0.5}))
    assert losses(plain)[3:] != losses(dropped)[3:]


def test_keep_and_checkpoint_seconds_decide_what_lies_on_disk(tmp_path):
    often, seldom = new_run(tmp_path / "often"), new_run(tmp_path / "seldom")
    train(often.path, resolved(steps=30, keep=4, checkpoint_seconds=1e-6))
    assert steps_saved(often) == [27, 28, 29, 30]
    with pytest.raises(Killed):
        train(seldom.path, resolved(steps=30, checkpoint_seconds=1e6), watch=killing_at(29))
    assert steps_saved(seldom) == [24, 27]  # a tenth of the run apart


def test_a_new_run_starts_warm_from_a_checkpoint(tmp_path, straight):
    source = straight.checkpoints / "000012"
    warm = new_run(tmp_path / "warm")
    train(warm.path, resolved(warm_from=str(source), steps=4))
    first = checkpoint.load(source).tensors
    begun = trainer_of(new_run(tmp_path / "other"), resolved(warm_from=str(source)))
    begun._restore({})
    for name, tensor in begun.optimizer.tensors().items():
        assert torch.equal(tensor, first[name]), name
    assert events(warm, "warm_start")[0]["step"] == 12
    assert [entry["step"] for entry in entries(warm.metrics)] == [1, 2, 3, 4]
    assert float.fromhex(losses(warm)[0]) < float.fromhex(losses(straight)[0])


def test_a_warm_start_is_taken_once_and_resume_goes_on_from_the_own_checkpoint(tmp_path, straight):
    settings = resolved(warm_from=str(straight.checkpoints / "000012"), steps=6)
    whole, torn = new_run(tmp_path / "whole"), new_run(tmp_path / "torn")
    train(whole.path, settings)
    with pytest.raises(Killed):
        train(torn.path, settings, watch=killing_at(3))
    train(torn.path, settings)
    same(whole, torn, step=6)
    assert len(events(torn, "warm_start")) == 1


def test_a_warm_start_from_nothing_or_from_another_model_is_refused(tmp_path, straight):
    with pytest.raises(SettingsError, match=r"train\.warm_from"):
        train(tmp_path / "absent", resolved(warm_from=str(tmp_path / "nowhere" / "000001")))
    source = str(straight.checkpoints / "000012")
    with pytest.raises(SettingsError, match="another model's weights"):
        train(tmp_path / "lora", resolved(warm_from=source, method="lora"))


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 1e-3}, {"schedule": "constant"}, {"warmup": 0.5}, {"final_lr": 0.5}, {"schedule": "wsd", "decay": 0.9},
        {"betas": (0.5, 0.9)}, {"clip": 1e-3}, {"weight_decay": 5.0}, {"batch_tokens": 80}, {"method": "lora"},
    ],
    ids=lambda change: ",".join(change),
)  # fmt: skip
def test_every_setting_changes_the_course(tmp_path, straight, change):
    run = new_run(tmp_path / "run")
    train(run.path, resolved(**change))
    assert losses(run)[1:] != losses(straight)[1:]


@pytest.mark.parametrize(
    "change",
    [{"layout": "padded"}, {"micro_tokens": 4000}, {"gradient_checkpointing": True}],
    ids=lambda change: ",".join(change),
)
def test_what_only_saves_memory_or_time_keeps_the_course(tmp_path, straight, change):
    run = new_run(tmp_path / "run")
    train(run.path, resolved(**change))
    ours, theirs = ([float.fromhex(loss) for loss in losses(one)] for one in (run, straight))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_lora_rank_alpha_and_targets_decide_what_is_trained(tmp_path):
    def shapes(**lora: object) -> dict[str, tuple[int, ...]]:
        policy = policy_of(tiny_model(), resolved(method="lora", lora=lora))
        return {name: tuple(p.shape) for name, p in policy.model.named_parameters() if p.requires_grad}

    every = shapes(rank=4, alpha=8)
    assert len(every) == 2 * 7 * 2
    assert all(4 in shape for shape in every.values())
    some = shapes(rank=2, alpha=8, targets=("q_proj",))
    assert len(some) == 2 * 2
    assert all("q_proj" in name and 2 in shape for name, shape in some.items())
    courses = []
    for alpha in (4, 16):
        run = new_run(tmp_path / f"alpha-{alpha}")
        train(run.path, resolved(method="lora", lora={"rank": 4, "alpha": alpha}))
        courses.append(losses(run))
    assert courses[0] != courses[1]


def test_the_watcher_is_told_where_the_run_stands(tmp_path):
    seen: list[Progress] = []
    train(tmp_path / "run", resolved(steps=6), watch=seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[0].seconds_left is None
    assert seen[-1].seconds_left == 0
    assert 0 < seen[0].epoch < seen[-1].epoch
    assert all(progress.tokens_per_second > 0 and progress.memory_bytes > 2**20 for progress in seen)


def test_the_state_in_a_checkpoint_is_plain_json(straight):
    state = json.loads((Path(straight.checkpoints) / "000012" / "state.json").read_text())
    assert set(state) == {
        "step",
        "tokens",
        "best_step",
        "best_loss",
        "best_right",
        "worse",
        "seconds",
        "metrics_offset",
        "fingerprint",
    }
    assert state["metrics_offset"] == straight.metrics.stat().st_size
