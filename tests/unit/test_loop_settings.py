"""The training loop: validation, early stopping, warm starts, and the effect of every setting."""

import json
from pathlib import Path

import pytest
import torch
from loops import Killed, events, killing_at, losses, same, steps_saved
from tiny_training import (
    new_run,
    policy_of,
    resolved,
    tiny_model,
    train,
    trainer_of,
)

from luthier.core.errors import SettingsError
from luthier.core.journal import entries
from luthier.train import checkpoint
from luthier.train.loop import Progress
from luthier.train.state import Validation


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
