"""`luthier compare RUN --against RUN`: the same arms of several runs on the test rows that they share."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import finished, needs_starter
from typer.testing import CliRunner

from luthier.cli.main import app
from luthier.core.errors import DataError, RunFolderError, SettingsError
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject
from luthier.recipes.against import against
from luthier.verdict.answers import answer_rows, read_answers, write_answers

pytestmark = needs_starter


def run_with(folder: Path, scores: list[float], seed: int = 0, **settings: object) -> Path:
    """A copy of the small run whose tuned arm has these scores, under another seed."""
    from dataclasses import replace

    run = RunDir(shutil.copytree(finished().path, folder))
    rows = answer_rows(read_answers(run.arm_answers("tuned")))
    write_answers(run.arm_answers("tuned"), [replace(row, score=score) for row, score in zip(rows, scores)])
    tree = yaml.safe_load(run.config.read_text())
    tree["seed"] = seed
    tree["train"].update(settings)
    run.config.write_text(yaml.safe_dump(tree))
    return run.path


def test_two_runs_are_paired_on_the_rows_that_they_share(tmp_path: Path):
    a = run_with(tmp_path / "a", [1, 1, 1, 1, 1, 0], lr=0.1)
    b = run_with(tmp_path / "b", [0, 0, 1, 1, 0, 0])
    path = RunDir(b).arm_answers("tuned")
    pq.write_table(pq.read_table(path).slice(1), path)
    found = against(a, [b], None)
    (tuned,) = [entry for entry in found["differences"] if entry["arm"] == "tuned"]
    assert found["rows"] == 5
    assert tuned["value"] == pytest.approx(np.mean([1, 1, 1, 1, 0]) - np.mean([0, 1, 1, 0, 0]))
    assert found["arms"]["tuned"] == {"a": pytest.approx(0.8), "b": pytest.approx(0.4)}
    assert found["seeds"] is None, "another learning rate is another recipe"
    (same,) = [entry for entry in found["differences"] if entry["arm"] == "zero_shot"]
    assert same["value"] == 0.0


def test_runs_that_differ_in_the_seed_alone_tell_of_the_recipe(tmp_path: Path):
    runs = [
        run_with(tmp_path / str(seed), [1, 1, 1, 0, 1, seed % 2], seed, micro_tokens=99 + seed) for seed in range(3)
    ]
    found = against(runs[0], runs[1:], 0.05)
    seeds: JsonObject = found["seeds"]
    assert seeds["seeds"] == 3 and seeds["arm"] == "tuned" and len(seeds["gains"]) == 3
    assert seeds["error_over_seeds"] > 0 and seeds["error_over_rows"] > 0
    shown = CliRunner().invoke(app, ["compare", str(runs[0]), "--against", str(runs[1])], catch_exceptions=False)
    assert shown.exit_code == 0, shown.stderr
    assert "Over 2 training seeds" in " ".join(shown.stdout.split())
    printed = CliRunner().invoke(app, ["compare", str(runs[0]), "--against", str(runs[1]), "--json"])
    assert json.loads(printed.stdout)["rows"] == 6


def test_what_cannot_be_compared_is_refused(tmp_path: Path):
    a, b = run_with(tmp_path / "a", [1] * 6), run_with(tmp_path / "b", [0] * 6)
    changed = json.loads((b / "verdict.json").read_text())
    (b / "verdict.json").write_text(json.dumps({**changed, "grader": "exact"}))
    with pytest.raises(SettingsError, match="graded with accuracy and exact"):
        against(a, [b], None)
    (b / "verdict.json").write_text(json.dumps({**changed, "outcome": "refused", "because": "x"}))
    with pytest.raises(RunFolderError, match="no test"):
        against(a, [b], None)
    (b / "verdict.json").write_text(json.dumps(changed))
    for arm in ("classical", "zero_shot", "tuned"):
        path = RunDir(b).arm_answers(arm)
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match="share no test row"):
        against(a, [b], None)
    used = CliRunner().invoke(app, ["compare", str(a), "--against", str(b), "--price", "p.yaml"])
    assert used.exit_code == 2 and "only --margin" in used.stderr
