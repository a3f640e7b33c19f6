"""One command trains under several seeds: the recipe's gain stands beside that of the weights, and what is trained stays trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import luthier as command
from command import refused
from small_run import finished, needs_starter

from luthier.core.rundir import RunDir

pytestmark = needs_starter


def test_seeds_are_trained_on_the_same_parts_and_judged_beside_the_weights(tmp_path: Path):
    run = RunDir(shutil.copytree(finished().path, tmp_path / "run"))
    called = command("compare", run.path, "--seeds", 3, "--json")
    assert called.code == 0, called.err
    verdict = json.loads(called.out)
    seeds = verdict["seeds"]
    assert seeds["seeds"] == [0, 1, 2] and (seeds["arm"], seeds["against"]) == ("tuned", finished_rival(verdict))
    assert seeds["value"] == pytest.approx(np.mean(seeds["gains"]))
    others = [RunDir(run.path / "seeds" / str(seed)) for seed in (1, 2)]
    assert len({other.metrics.read_bytes() for other in (run, *others)}) == 3, "another seed, another training"
    for other, gain in zip(others, seeds["gains"][1:], strict=True):
        assert other.part("test").read_bytes() == run.part("test").read_bytes()
        scores = pq.read_table(other.arm_answers("tuned"))["score"].to_numpy()
        rival = pq.read_table(run.arm_answers(seeds["against"]))["score"].to_numpy()
        assert gain == pytest.approx(scores.mean() - rival.mean())
    assert verdict["arms"] == finished().verdict["arms"] | {"tuned": verdict["arms"]["tuned"]}
    assert "seed 2" in run.report.read_text()
    trained = {path: path.stat().st_mtime_ns for other in others for path in other.path.rglob("*.safetensors")}
    again = command("compare", run.path, "--margin", "0.02", "--json")
    assert json.loads(again.out)["seeds"]["gains"] == seeds["gains"]
    assert {path: path.stat().st_mtime_ns for path in trained} == trained


def finished_rival(verdict: dict) -> str:
    """Return the best arm that is not trained, the simpler one of equals."""
    return max(("classical", "zero_shot"), key=lambda name: verdict["arms"][name]["score"])


def test_seeds_need_a_trained_arm_beside_another(tmp_path: Path):
    run = shutil.copytree(finished().path, tmp_path / "run")
    refused(command("compare", run, "--set", "compare.seeds=2", "--arms", "classical"), "compare.seeds", "trained arm")
