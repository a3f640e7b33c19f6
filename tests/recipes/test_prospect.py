"""Before tuning: the untuned arms answer in a run folder that a later run goes on with."""

import json
from pathlib import Path

import pytest
import yaml
from command import luthier, needs_starter
from small_run import SETTINGS, rows

from luthier.config.load import load
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.recipes import run as road
from luthier.recipes.prospect import go_on, is_outlook, prospect
from luthier.recipes.voice import Voice

pytestmark = needs_starter
BRIEF = {**SETTINGS, "compare.train_rows": 0, "compare.choosing_calls": 8, "compare.choosing_rows": 2}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


def test_untuned_arms_answer_and_a_later_run_takes_their_answers_over(data: Path, tmp_path: Path):
    flags = {**BRIEF, "data.path": str(data), "data.input": "text", "data.output": ["queue"]}
    run = prospect(None, load(flags=flags), tmp_path / "run", Voice(quiet=True))
    found = json.loads(run.outlook.read_text())
    assert list(found["arms"]) == ["classical", "zero_shot", "prompt", "few_shot"]
    assert found["outcome"] in ("nothing to gain", "tuning may pay", "tuning may not pay", "cannot tell")
    assert found["forecast"] is None and found["next"]
    assert not run.done("train") and not run.verdict.exists() and list(run.checkpoints.iterdir()) == []
    assert is_outlook(run.path)
    run.arm_answers("few_shot").unlink()
    go_on(run.path, {}, [], Voice(quiet=True))
    assert run.arm_answers("few_shot").exists() and json.loads(run.outlook.read_text())["because"] == found["because"]
    before = {arm: run.arm_answers(arm).stat().st_mtime_ns for arm in found["arms"]}
    road.resume(run.path, Voice(quiet=True))
    verdict = json.loads(run.verdict.read_text())
    assert set(verdict["arms"]) == {*found["arms"], "tuned"}
    assert {arm: run.arm_answers(arm).stat().st_mtime_ns for arm in before} == before
    assert not is_outlook(run.path)
    looks = list(entries(tmp_path / "looks.jsonl"))
    assert len(looks) == 1, "one look at the test for both"


def test_arms_that_were_named_are_the_ones_asked(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    settings = {f"--set={key}={json.dumps(value)}" for key, value in BRIEF.items()}
    called = luthier(
        "compare", data, "--model", "starter", "--arms", "classical,zero_shot", "--set", "data.input=text", "--set", "data.output=[queue]",
        "--json", *settings,
    )  # fmt: skip
    assert called.code == 0, called.err
    found = json.loads(called.out)
    assert list(found["arms"]) == ["classical", "zero_shot"] and found["outcome"]
    run = RunDir(next((tmp_path / "runs").glob("*-tickets-*")))
    assert yaml.safe_load(run.config.read_text())["compare"]["arms"] == ["classical", "zero_shot", "tuned"]
