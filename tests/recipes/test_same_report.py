"""The same report twice from the same run: identical bytes but for times."""

import json
import re
import shutil
from pathlib import Path

from command import luthier as command
from small_run import finished, needs_starter

from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject

pytestmark = needs_starter
# What of an arm and of a verdict is time, or is made of times.
TIMES = {"seconds", "cost", "costs", "plan", "measured"}


def untimed(page: bytes) -> bytes:
    """Leave out the one section that holds times: what each arm cost."""
    left, found = re.subn(rb"<section>\s*<h2>What it cost</h2>.*?</section>", b"", page, flags=re.DOTALL)
    assert found == 1
    return left


def without_times(value: JsonObject) -> JsonObject:
    return {
        key: without_times(inner) if isinstance(inner, dict) else inner
        for key, inner in value.items()
        if key not in TIMES
    }


def test_a_verdict_made_again_from_the_same_answers_gives_the_same_bytes(tmp_path: Path):
    run = RunDir(shutil.copytree(finished().path, tmp_path / finished().path.name))
    assert command("compare", run.path, "--json").code == 0
    verdict, page = run.verdict.read_bytes(), run.report.read_bytes()
    run.verdict.unlink()
    run.report.unlink()
    assert command("compare", run.path, "--json").code == 0
    assert run.verdict.read_bytes() == verdict
    assert run.report.read_bytes() == page


def test_rows_that_are_asked_again_give_the_same_bytes_but_for_times(tmp_path: Path):
    run = RunDir(shutil.copytree(finished().path, tmp_path / finished().path.name))
    for answers in run.answers.iterdir():
        answers.unlink()
    assert command("compare", run.path, "--json").code == 0
    assert without_times(json.loads(run.verdict.read_bytes())) == without_times(dict(finished().verdict))
    assert untimed(run.report.read_bytes()) == untimed(RunDir(finished().path).report.read_bytes())
