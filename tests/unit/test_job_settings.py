"""The settings that fine-tuning jobs need: rows a step, a share of the chosen rate, a checkpoint at each epoch's end."""

import json
from pathlib import Path

import pytest
import yaml
from tiny_training import new_run, resolved, trainer_of

import luthier
from luthier.train import rule
from luthier.train.checkpoint import steps_on_disk

STARTER = Path(luthier.__path__[0]) / "starter" / "model"
STEPS = 40


def saved(path: Path, *, epochs: bool) -> tuple[set[int], int]:
    """Train, and return which steps were saved, and how many make an epoch."""
    run = new_run(path)
    settings = resolved(steps=STEPS, keep=STEPS, checkpoint_seconds=1e9, checkpoint_epochs=epochs)
    trainer = trainer_of(run, settings)
    trainer.train({"data": "tiny"}, None, lambda progress: None)
    return {int(folder.name) for folder in steps_on_disk(run.checkpoints)}, trainer.steps_per_epoch


def test_every_epoch_ends_with_a_checkpoint_where_that_is_asked_for(tmp_path: Path):
    tenths, per_epoch = saved(tmp_path / "without", epochs=False)
    both, _ = saved(tmp_path / "with", epochs=True)
    assert both == tenths | set(range(0, STEPS + 1, per_epoch)) and both > tenths


@pytest.mark.skipif(not (STARTER / "model.safetensors").exists(), reason="the starter's weights are not there")
def test_rows_a_step_and_a_share_of_the_rate_are_taken_from_the_plan(tmp_path: Path):
    rows = [
        {"messages": [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": "yes"}]}
        for n in range(24)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "data": {"path": str(tmp_path / "rows.jsonl")}, "split": {"test_share": 0, "validation_share": 0}, "threads": 1,
        "model": {"dtype": "float32"}, "train": {"steps": 1, "batch_rows": 3, "lr_multiplier": 0.5, "method": "full"},
    }  # fmt: skip
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    run = luthier.train_weights([tmp_path / "settings.yaml"], out=tmp_path / "run", quiet=True)
    width = json.loads((STARTER / "config.json").read_text())["hidden_size"]
    assert run.settings.train.lr == 0.5 * rule.learning_rate("full", width)
    assert json.loads((run.path / "plan.json").read_text())["steps_per_epoch"] == 8
