"""The graders of a comparison: another one grades what lies there anew, further ones stand beside, and bad ones are refused at once."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import luthier as command
from huggingface_hub import ModelCard, ModelCardData
from small_run import finished, needs_starter

import luthier
from luthier.core.errors import SettingsError

pytestmark = needs_starter
ARMS = ("classical", "zero_shot", "tuned")


def copy_of_run(to: Path) -> Path:
    return Path(shutil.copytree(finished().path, to / "run"))


def answers(run: Path, arm: str) -> list[str]:
    return pq.read_table(run / "answers" / f"{arm}.parquet").column("completion").to_pylist()


def test_another_grader_grades_the_answers_that_lie_there_and_further_ones_stand_beside(tmp_path: Path):
    run = copy_of_run(tmp_path)
    prompted = ("zero_shot", "tuned")  # the classical model learns for its grader, and answers anew
    before = {arm: answers(run, arm) for arm in prompted}
    (tmp_path / "text.json").write_text('{"type": "string"}')
    spec = "length:least=1,most=1,unit=lines"
    called = command(
        "compare", run, "--grader", spec, "--grader", "json_valid", "--schema", tmp_path / "text.json", "--json"
    )
    seen = json.loads(called.out)
    assert seen["grader"] == spec and {arm: answers(run, arm) for arm in prompted} == before
    for arm in ARMS:
        one_line = [len(text.strip().splitlines()) == 1 for text in answers(run, arm)]
        assert seen["arms"][arm]["score"] == pytest.approx(sum(one_line) / len(one_line)), arm
        assert set(seen["arms"][arm]["also"]) == {"json_valid", f"json_schema:schema={tmp_path}/text.json"}
        assert seen["arms"][arm]["also"]["json_valid"]["score"] == 0
    assert "declared as accuracy before the test part was opened" in json.dumps(seen)
    report = (run / "report.html").read_text()
    assert "valid JSON" in report and "json schema" in report
    again = luthier.compare(run, settings={"compare.grader": "accuracy"}, quiet=True).verdict
    assert _measured(again) == _measured(finished().verdict)


def test_the_card_of_the_package_registers_the_verdict_as_it_is_now(tmp_path: Path):
    run = copy_of_run(tmp_path)
    assert _registered(run / "package" / "README.md") == _of_the_tuned_arm(finished().verdict)
    seen = luthier.compare(run, settings={"compare.grader": "length:least=1,most=1,unit=lines"}, quiet=True).verdict
    assert _of_the_tuned_arm(seen) != _of_the_tuned_arm(finished().verdict)
    for path in ("package/README.md", "card.md"):
        assert _registered(run / path) == _of_the_tuned_arm(seen), path


def _registered(card: Path) -> dict:
    """The figures in a card, as the hub's own reader finds them."""
    data = ModelCard.load(card).data
    assert isinstance(data, ModelCardData) and data.eval_results
    return {one.metric_name: one.metric_value for one in data.eval_results}


def _of_the_tuned_arm(verdict: dict) -> dict:
    tuned = verdict["arms"]["tuned"]
    numbers = {name: value for name, value in tuned["metrics"].items() if isinstance(value, int | float)}
    return {"score": tuned["score"], **numbers}


def _measured(verdict: dict) -> list:
    return [(verdict["arms"][arm]["metrics"], verdict["arms"][arm]["interval"]) for arm in ARMS]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ('{"$ref": "https://example.org/shape.json"}', "points outside the schema, and nothing is fetched"),
        ("[]", "is no JSON schema: expected an object"),
        ("{", "is not JSON"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_before_anything_is_done(tmp_path: Path, schema: str, words: str):
    (tmp_path / "shape.json").write_text(schema)
    with pytest.raises(SettingsError, match=words):
        luthier.compare(
            finished().path, settings={"compare.also": [f"json_schema:schema={tmp_path}/shape.json"]}, quiet=True
        )
    assert "also" not in json.loads((finished().path / "verdict.json").read_text())["arms"]["tuned"]


def test_the_command_names_graders_as_python_does(tmp_path: Path):
    (tmp_path / "shape.json").write_text('{"$ref": "https://example.org/shape.json"}')
    path = str(finished().path)
    refused = command("compare", path, "--schema", str(tmp_path / "shape.json"))
    assert refused.code == 2 and "points outside the schema" in refused.err
    unknown = command("compare", path, "--grader", "exact", "--grader", "acuracy")
    assert unknown.code == 2 and "Did you mean 'accuracy'?" in unknown.err
