"""`luthier.compare` is the command: the same verdict, the same look ahead, the same refusals."""

import json
import shutil
from pathlib import Path

import pytest
from command import luthier as command
from command import needs_starter, refused
from small_run import SETTINGS, finished, rows

import luthier
from luthier.recipes.against import against

pytestmark = needs_starter
UNTUNED = {**SETTINGS, "compare.choosing_calls": 8, "compare.choosing_rows": 2}


@pytest.fixture
def run(tmp_path: Path) -> "luthier.Run":
    return luthier.open(shutil.copytree(finished().path, tmp_path / "run"))


def test_a_verdict_made_anew_is_that_of_the_command_and_the_run_shows_it(run: "luthier.Run", tmp_path: Path):
    other = shutil.copytree(run.path, tmp_path / "by-command" / "run")
    before = run.verdict
    changed = luthier.compare(
        run, arms=["classical", "tuned"], margin=0.2, settings={"compare.resamples": 60}, quiet=True
    )
    assert changed.path == run.path and changed.settings.compare.resamples == 60
    assert list(run.verdict["arms"]) == ["classical", "tuned"] and run.verdict["margin"] == 0.2
    assert run.verdict != before and list(before["arms"]) == ["classical", "zero_shot", "tuned"]
    called = command(
        "compare", other, "--arms", "classical,tuned", "--margin", "0.2", "--set", "compare.resamples=60", "--json"
    )
    assert called.code == 0, called.err
    printed = json.loads(called.out)
    differing = {key for key in printed if printed[key] != run.verdict[key]}
    assert differing <= {"looks"}, "the second look at these test rows is counted, nothing else differs"


def test_rows_from_python_give_the_outlook_that_a_file_gives_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "tickets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    ahead = luthier.compare(
        rows(), model="starter", input="text", output="queue", arms=["classical", "zero_shot"], out="ahead",
        settings=UNTUNED, quiet=True,
    )  # fmt: skip
    assert ahead.outlook["outcome"] in ("nothing to gain", "tuning may pay", "tuning may not pay", "cannot tell")
    assert ahead.settings.model.name == "starter"
    with pytest.raises(luthier.RunFolderError, match="no verdict yet"):
        ahead.verdict  # noqa: B018 - reading it is the test
    settings = [f"--set={key}={json.dumps(value)}" for key, value in UNTUNED.items()]
    called = command(
        "compare", file, "--arms", "classical,zero_shot", "--set=data.input=text", "--set=data.output=[queue]", "--json", *settings,
    )  # fmt: skip
    assert called.code == 0, called.err
    printed = json.loads(called.out)
    for key in ("data", "grader", "outcome", "forecast"):
        assert printed[key] == ahead.outlook[key], key
    scores = {name: (arm["score"], arm["interval"]) for name, arm in printed["arms"].items()}
    assert scores == {name: (arm["score"], arm["interval"]) for name, arm in ahead.outlook["arms"].items()}
    once_more = luthier.compare(ahead, quiet=True)
    assert once_more.path == ahead.path and once_more.outlook["arms"] == ahead.outlook["arms"]


def test_what_belongs_to_data_is_refused_beside_a_run(run: "luthier.Run"):
    with pytest.raises(luthier.SettingsError, match=r"model\.name goes with data"):
        luthier.compare(run, model="starter", quiet=True)
    with pytest.raises(luthier.SettingsError, match="--out goes with data"):
        luthier.compare(run.path, out=run.path / "other", quiet=True)
    refused(command("compare", run.path, "--model", "starter"), "model.name goes with data", str(run.path))
    with pytest.raises(luthier.RunFolderError, match="no outlook"):
        run.outlook  # noqa: B018 - reading it is the test


def test_several_models_are_sent_to_the_command_that_chooses_between_them():
    called = command("compare", "rows.jsonl", "--model", "starter", "--model", "other")
    words = " ".join(called.err.replace("│", "").split())
    assert called.code == 2 and "luthier bases rows.jsonl --model starter --model other" in words, called.err


def test_runs_against_one_another_are_those_of_the_command(run: "luthier.Run"):
    found = run.against(finished(), margin=0.3)
    assert found == against(run.path, [finished().path], 0.3)
    assert found["margin"] == 0.3 and {entry["value"] for entry in found["differences"]} == {0.0}
