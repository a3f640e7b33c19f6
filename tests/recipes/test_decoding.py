"""`--constrain` and `--decode` reach the arms of a finished run, are said, and change what is answered."""

import json
import re
import shutil
from pathlib import Path

import pytest
from small_run import SETTINGS, finished, needs_starter, rows

import luthier
from luthier.config.settings import GenerateSettings
from luthier.core.errors import DataError, SettingsError
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.data.store import read_stored
from luthier.recipes.compare import compare
from luthier.recipes.decode import refuse_contradictions
from luthier.recipes.verdict_file import read_verdict
from luthier.recipes.voice import Voice
from luthier.verdict.answers import answer_rows, read_answers
from luthier.verdict.figures import objects

LABELS = {row["queue"] for row in rows()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("decoding") / "run"
    shutil.copytree(finished().path, copy)
    return copy


def answered(run: Path, arm: str = "zero_shot", **changes: str) -> tuple[list[str], str]:
    """The arm's answers after the change, and its description."""
    given = {f"generate.{key}": value for key, value in changes.items()}
    folder: RunDir = compare(run, Voice(quiet=True), {"compare.arms": [arm], **given})
    notes = [entry["note"] for entry in entries(folder.events) if entry["event"] == "arm_described"]
    return [row.completion for row in answer_rows(read_answers(folder.arm_answers(arm)))], str(notes[-1])


@needs_starter
def test_labels_are_all_that_is_answered_written_or_scored(run: Path) -> None:
    free, note = answered(run)
    assert not set(free) <= LABELS and "labels" not in note
    written, note = answered(run, constrain="labels")
    assert set(written) <= LABELS and "held to labels" in note
    scored, note = answered(run, decode="score")
    assert set(scored) <= LABELS and "scored exactly" in note


@needs_starter
def test_the_same_decoding_keeps_its_answers_and_another_makes_them_anew(run: Path) -> None:
    answered(run, constrain="labels", decode="generate")
    file = RunDir(run).arm_answers("zero_shot")
    before = file.stat().st_mtime_ns
    answered(run, constrain="labels")
    assert file.stat().st_mtime_ns == before
    answered(run, constrain="pattern:[a-z]{3}")
    assert file.stat().st_mtime_ns != before


@needs_starter
def test_what_the_constraint_does_to_each_arm_is_measured_on_validation_rows(run: Path) -> None:
    arms, pattern = ["classical", "zero_shot", "tuned"], "[a-z]{3}"
    asked = {row.id for row in read_stored(RunDir(run).part("validation"))}
    held_to = {"generate.constrain": f"pattern:{pattern}", "generate.decode": "generate", "compare.arms": arms}
    folder = compare(run, Voice(quiet=True), held_to)  # type: ignore[arg-type]
    found = objects(read_verdict(folder)["constraint"])
    assert (found["held_to"], found["rows"]) == (f"pattern:{pattern}", len(asked)) and [
        *objects(found["arms"])
    ] == arms[1:]
    for arm, entry in objects(found["arms"]).items():
        for side, valid in (("held", 1), ("free", 0)):
            answers = answer_rows(read_answers(folder.arm_answers(f"{arm}_{side}_on_validation")))
            assert {row.id for row in answers} == asked
            assert all(bool(re.fullmatch(pattern, row.completion)) == bool(valid) for row in answers)
            score = sum(row.score for row in answers) / len(answers)
            assert objects(entry)[side] == {"score": pytest.approx(score), "valid": valid}
    assert "What holding the answers to a form does" in folder.report.read_text()
    assert read_verdict(compare(run, Voice(quiet=True), {"compare.held_rows": 0}))["constraint"] is None


@needs_starter
def test_spans_are_copied_from_the_question_and_refused_for_labels(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no JSON object"):
        answered(run, constrain="spans")
    things = [{"text": row["text"], "thing": row["text"].split()[-2], "queue": row["queue"]} for row in rows()]
    made = luthier.run(
        things, input="text", output=("thing", "queue"), out=tmp_path / "run", quiet=True,
        settings=SETTINGS | {"train.steps": 1, "generate.max_new_tokens": 24, "generate.constrain": "spans"},
    )  # fmt: skip
    held = [
        row
        for row in answer_rows(read_answers(RunDir(made.path).arm_answers("zero_shot")))
        if row.finish_reason == "stop"
    ]
    assert held
    for row in held:
        answer = json.loads(row.completion)
        assert answer["thing"] in row.messages[-1]["content"] and answer["queue"] in LABELS


@needs_starter
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generate.constrain": "remote.json"}, "points outside the schema"), ({"generate.constrain": "pattern:[a-"}, "this pattern"),
        ({"generate.constrain": "spans"}, "no JSON object"), ({"compare.knowledge": "pictures"}, r"one\.png: no plain text"),
        ({"compare.price": "nowhere.yaml"}, "no file nowhere.yaml"), ({"generate.decode": "score", "generate.constrain": "json"}, "one of them"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_leaves_settings_and_answers_as_they_are(
    run: Path, tmp_path: Path, monkeypatch, changes, words
):
    monkeypatch.chdir(tmp_path)
    Path("remote.json").write_text('{"$ref": "http://127.0.0.1:1/schema.json"}')
    Path("pictures").mkdir()
    Path("pictures/one.png").write_bytes(b"\x89PNG\0")
    before = {path: path.read_bytes() for path in [run / "config.yaml", *(run / "answers").iterdir()]}
    with pytest.raises((DataError, SettingsError), match=words):
        compare(run, Voice(quiet=True), changes)
    assert {path: path.read_bytes() for path in [run / "config.yaml", *(run / "answers").iterdir()]} == before


@needs_starter
def test_a_form_that_the_rows_do_not_have_stops_a_run_before_it_trains(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(DataError, match="no JSON object"):
        luthier.run(
            rows(),
            input="text",
            output="queue",
            out=out,
            quiet=True,
            settings=SETTINGS | {"generate.constrain": "spans"},
        )
    assert not list((out / "checkpoints").iterdir())
    with pytest.raises(SettingsError, match="no file"):
        luthier.run(
            rows(),
            input="text",
            output="queue",
            out=tmp_path / "b",
            quiet=True,
            settings={"generate.constrain": "no.json"},
        )
    assert not (tmp_path / "b").exists()


@needs_starter
def test_a_schema_that_is_not_there_is_said(run: Path) -> None:
    with pytest.raises(SettingsError, match="no file"):
        answered(run, constrain="no-such-schema.json")


def test_scoring_draws_nothing_and_knows_labels_only() -> None:
    with pytest.raises(SettingsError, match="temperature"):
        refuse_contradictions(GenerateSettings(decode="score", temperature=0.5))
    with pytest.raises(SettingsError, match="one of them"):
        refuse_contradictions(GenerateSettings(decode="score", constrain="json"))
    refuse_contradictions(GenerateSettings(decode="score", constrain="labels"))
