"""The verdict and the report of a run say what the answers in its folder show, and the same each time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_run import finished, needs_starter
from typer.testing import CliRunner

from luthier.cli.main import app
from luthier.core.rundir import RunDir
from luthier.core.types import Conversation, JsonObject, Message
from luthier.data.store import RowWriter, read_stored
from luthier.verdict.answers import answer_rows, read_answers, write_answers

pytestmark = needs_starter
SECRET = " ".join(f"word{number}" for number in range(20))
PRICES = "currency: EUR\nper_hour: 3600\narms: {zero_shot: {output_per_million: 1000000}}\n"


def copied(folder: Path, completions: str | None = None, score: float = 1.0) -> RunDir:
    """A copy of the small run; its tuned arm says something else, where given, with this score."""
    run = RunDir(shutil.copytree(finished().path, folder))
    if completions is not None:
        rows = answer_rows(read_answers(run.arm_answers("tuned")))
        write_answers(run.arm_answers("tuned"), [replace(row, completion=completions, score=score) for row in rows])
    return run


def compared(run: RunDir, *flags: str) -> JsonObject:
    done = CliRunner().invoke(app, ["compare", str(run.path), "--json", *flags], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_the_same_run_is_judged_and_reported_to_the_byte_each_time(tmp_path: Path):
    run = copied(tmp_path / "run")
    compared(run)
    verdict, report = run.verdict.read_bytes(), run.report.read_bytes()
    compared(run)
    assert run.verdict.read_bytes() == verdict and run.report.read_bytes() == report


def test_what_the_answers_have_by_heart_is_looked_up_in_the_training_answers(tmp_path: Path):
    run = copied(tmp_path / "run", SECRET, 0.0)
    assert compared(run)["overfit"]["memorized"]["rows"] == 0
    first, *rest = read_stored(run.part("train"))
    told = Conversation((Message("user", "tell me"), Message("assistant", SECRET)))
    with RowWriter(run.part("train")) as writer:
        for row in (replace(first, content=told), *rest):
            writer.write(row)
    found = compared(run)["overfit"]
    assert (found["memorized"]["rows"], found["memorized"]["of"], found["arm"]) == (6, 6, "tuned")
    assert found["nearness"] is None, "six rows are too few to halve"
    assert f"The longest, 20 words: &quot;{SECRET}" in run.report.read_text(encoding="utf-8")
    assert finished().verdict["overfit"]["memorized"] is None, "labels are too short to be known by heart"


def test_prices_reach_the_verdict_and_the_report(tmp_path: Path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    run = copied(tmp_path / "run")
    verdict = compared(run, "--price", str(prices))
    tuned, untuned = (verdict["arms"][arm] for arm in ("tuned", "zero_shot"))
    assert tuned["cost"]["money_per_1000"] == pytest.approx(1000 * tuned["seconds"] / 6)
    assert untuned["cost"]["money_per_1000"] == pytest.approx(1000 * untuned["tokens_out"] / 6)
    assert verdict["costs"]["training"] == pytest.approx(verdict["measured"]["seconds"])
    assert tuned["cost"]["timed_alone"] == 6 and 0 < tuned["cost"]["latency_p50"] <= tuned["cost"]["latency_p95"]
    assert "EUR per 1,000" in run.report.read_text(encoding="utf-8")
    assert finished().verdict["costs"] is None


def test_no_latency_is_measured_where_none_is_asked_for(tmp_path: Path):
    run = copied(tmp_path / "run")
    run.arm_answers("tuned").unlink()
    run.events.write_text("".join(line for line in run.events.open() if "arm_timed" not in line))
    assert compared(run, "--set", "compare.latency_rows=0")["arms"]["tuned"]["cost"]["latency_p50"] is None
