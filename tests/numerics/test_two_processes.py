"""Two real processes train as one does: the same loss, step by step, and the same bits after they were stopped."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import random_store
from two_ranks import train

from luthier.core.journal import entries
from luthier.core.threads import child_environment
from luthier.data.loader import micro_batches
from luthier.train.checkpoint import load, steps_on_disk
from luthier.train.world import ALONE, World

SCRIPT = Path(__file__).with_name("two_ranks.py")


def together(folder: Path, changes: dict[str, object]) -> list[dict[str, object]]:
    """Run the script in two processes and return the lines that they printed."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, *launcher, SCRIPT, folder, json.dumps(changes)],
        env=child_environment(1), capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "full", "layout": "tree"},
        pytest.param({"method": "full", "layout": "packed", "gradient_checkpointing": True}, marks=pytest.mark.nightly),
        pytest.param({"method": "full", "layout": "tree", "optimizer": "adamw8bit"}, marks=pytest.mark.nightly),
        pytest.param({"method": "lora", "layout": "packed"}, marks=pytest.mark.nightly),
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_two_processes_have_the_loss_of_one_and_resume_to_the_bit(changes, tmp_path):
    train(tmp_path / "one" / "straight", changes, False)
    said = together(tmp_path / "two", changes)
    one = list(entries(tmp_path / "one" / "straight" / "metrics.jsonl"))
    two = list(entries(tmp_path / "two" / "straight" / "metrics.jsonl"))
    assert len(one) == len(two) == 6
    for alone, dealt in zip(one, two, strict=True):
        assert all(alone[key] == dealt[key] for key in ("step", "tokens", "processed", "trained", "lr"))
        for key in {"loss", "norm", "validation_loss", "validation_right"} & set(alone):
            assert float.fromhex(dealt[key]) == pytest.approx(float.fromhex(alone[key]), rel=2e-5), key
    assert "validation_loss" in two[1]
    last = [load(steps_on_disk(tmp_path / name / "straight" / "checkpoints")[-1]).tensors for name in ("one", "two")]
    for name, tensor in last[0].items():
        if tensor.is_floating_point():  # a byte of an average may be one level apart
            torch.testing.assert_close(last[1][name], tensor, rtol=2e-3, atol=2e-5)
    deals = changes["method"] == "full" and "optimizer" not in changes
    layers = sum(
        tensor.numel() for name, tensor in last[0].items() if name.startswith("master.") and ".layers." in name
    )
    whole = sum(tensor.numel() for name, tensor in last[0].items() if name.startswith("master."))
    assert {line["held"] for line in said if "held" in line} == {whole - layers // 2 if deals else whole}
    shares = [line["shares"] for line in said if "shares" in line]
    assert shares[0] == shares[1], "every process runs equally many batches"
    assert sum("stopped" in line for line in said) == 2, "a signal to one process stops both"
    stopped = tmp_path / "two" / "stopped"
    assert list(entries(stopped / "metrics.jsonl")) == two
    again = load(steps_on_disk(stopped / "checkpoints")[-1]).tensors
    assert all(torch.equal(again[name], tensor) for name, tensor in last[1].items())


def test_a_step_is_dealt_round_robin_and_a_short_process_runs_a_tree_of_weight_zero():
    store = random_store(9, shared=40)
    batches = list(micro_batches(store, np.arange(9), 150, "tree"))[:3]
    assert len(batches) % 2 == 1 and len(batches) > 1
    shares = []
    for rank in range(2):
        here = World(0, 1)
        here.rank, here.size = rank, 2
        shares.append(here.own(batches))
    assert len(shares[0]) == len(shares[1])
    assert shares[0] == batches[0::2] and shares[1][:-1] == batches[1::2]
    idle = shares[1][-1]
    assert not idle.weight_T.any() and idle.rows == () and idle.num_positions == batches[0].num_positions
    assert ALONE.own(batches) == batches
