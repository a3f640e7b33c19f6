"""`luthier grade` and `luthier graders` as a user calls them, on the command line and from Python."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command import luthier as call
from command import refused
from sklearn.metrics import f1_score
from small_run import finished, needs_starter

import luthier
from luthier.core import parts
from luthier.graders.making.spec import GRADERS

LABELS = [("billing", "billing"), ("billing", "shipping"), ("Shipping ", "shipping"), ("refund", "billing")]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"question {number}", "completion": completion, "answer": wanted}
        for number, (completion, wanted) in enumerate(LABELS)
    ]
    file = tmp_path / "answers.jsonl"
    file.write_text("\n\n".join(json.dumps(row) for row in rows))
    return file


def graded(*arguments: object) -> dict:
    called = call("grade", *arguments, "--json")
    assert called.code == 0, called.err
    return json.loads(called.out)


def test_every_grader_scores_with_an_interval_and_the_worst_rows_have_their_lines(answers: Path) -> None:
    result = graded(answers, "--grader", "accuracy", "--grader", "exact", "--worst", 2)
    by_meaning, by_letter = result["graders"]
    assert result["rows"] == 4
    assert by_meaning["score"] == 0.5
    low, high = by_meaning["interval"]
    assert 0 <= low < 0.5 < high <= 1
    expected = f1_score(["billing", "shipping", "shipping", "billing"], ["billing", "billing", "shipping", "refund"],
                        average="macro", zero_division=0)  # fmt: skip
    assert by_meaning["metrics"]["macro_f1"] == pytest.approx(expected)
    assert [row["place"] for row in by_meaning["worst"]] == ["answers.jsonl:3", "answers.jsonl:7"]
    assert by_meaning["worst"][0]["prompt"] == "question 1"
    assert by_letter["score"] == 0.25
    assert by_letter["metrics"]["exact_normalized"] == 0.5


def test_the_same_file_gives_the_same_result(answers: Path) -> None:
    assert graded(answers) == graded(answers)


def test_the_table_names_scores_confusions_and_places(answers: Path) -> None:
    called = call("grade", answers, "--grader", "accuracy")
    assert called.code == 0
    for words in (
        "50.0 %",
        "macro-F1",
        "1 times 'billing' was answered with 'refund'",
        "answers.jsonl:3  0.00  answered 'billing'",
    ):
        assert words in called.out


def test_a_grader_is_chosen_by_the_wanted_answers(answers: Path) -> None:
    called = call("grade", answers, "--json")
    assert json.loads(called.out)["graders"][0]["grader"] == "accuracy"
    assert "grading with accuracy" in called.err


def test_columns_are_found_or_named_in_csv_and_parquet(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["q", "output", "label"], ["a", "x", "x"], ["b", "y", "x"]])
    (by_name,) = graded(tmp_path / "a.csv", "--grader", "exact")["graders"]
    assert by_name["score"] == 0.5 and by_name["worst"][0]["place"] == "a.csv:3"
    pq.write_table(pa.table({"said": ["x"], "one": ["x"], "two": [2], "asked": ["why?"]}), tmp_path / "b.parquet")
    named = ("--completion", "said", "--answer", "one", "--prompt", "asked")
    assert graded(tmp_path / "b.parquet", *named, "--grader", "exact")["graders"][0]["score"] == 1
    several = ("--completion", "said", "--answer", "one,two", "--grader", "json_exact")
    assert graded(tmp_path / "b.parquet", *several)["graders"][0]["worst"][0]["answer"] == '{"one": "x", "two": 2}'


def test_answers_without_a_wanted_text_are_graded_by_what_needs_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"completion": {"a": 1}}\n{"completion": "oops"}\n{"completion": null}\n')
    specs = ("--grader", "json_valid", "--grader", "regex:pattern=\\d", "--grader", "length:most=1")
    scores = [one["score"] for one in graded(tmp_path / "a.jsonl", *specs)["graders"]]
    assert scores == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    refused(call("grade", tmp_path / "a.jsonl", "--grader", "exact"), "exact compares with a wanted answer", "--answer")
    refused(call("grade", tmp_path / "a.jsonl"), "no wanted answer to choose a grader by")


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("", (), "holds no rows"),
        ("[]", (), "holds no answers"),
        ("{broken\n", (), "a.jsonl:1: invalid-json"),
        ('{"said": "x"}', (), "name the column with the completions with --completion; there are: said"),
        ('{"completion": "x"}', ("--completion", "completoin"), "Did you mean 'completion'?"),
        ('{"completion": "x", "a": 1}', ("--answer", "b"), "--answer names 'b', which is in no row"),
        (
            '{"completion": "x", "answer": "y"}\n{"answer": "z"}',
            (),
            "1 rows lack 'completion' and 'answer', the first: a.jsonl:2",
        ),
        ('{"completion": "x", "answer": "y"}', ("--grader", "exactly"), "Did you mean 'exact'?"),
    ],
)
def test_what_cannot_be_graded_says_why(tmp_path: Path, text: str, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    refused(call("grade", tmp_path / "a.jsonl", *arguments), words)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text("{}")
    refused(call("grade", tmp_path / "answer.jsonl"), "no file or folder", "Did you mean 'answers.jsonl'?")


def test_a_voice_is_learned_from_training_rows(tmp_path: Path) -> None:
    formal = [f"We regret the delay of order {number}, and thank you for your patience." for number in range(12)]
    chatty = [f"Oops!! Order {number} is late, sorry :)" for number in range(12)]
    train = [{"prompt": "Where is it?", "completion": text} for text in formal]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, train)))
    for name, texts in (("formal", formal), ("chatty", chatty)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"completion": text}) for text in texts))
    scores = [
        graded(tmp_path / f"{name}.jsonl", "--grader", "style", "--train", tmp_path / "train.jsonl")["graders"][0][
            "score"
        ]
        for name in ("formal", "chatty")
    ]
    assert scores[0] > scores[1] + 0.1
    refused(call("grade", tmp_path / "formal.jsonl", "--grader", "style"), "style compares with a wanted answer")


def test_python_gives_what_the_command_gives(answers: Path) -> None:
    from_file = luthier.grade(answers, ["accuracy", "chrf:word_order=2"], quiet=True)
    assert from_file == graded(answers, "--grader", "accuracy", "--grader", "chrf:word_order=2")
    rows = [json.loads(line) for line in answers.read_text().splitlines() if line]
    from_rows = luthier.grade(rows, "accuracy", quiet=True)
    assert from_rows["graders"][0]["score"] == 0.5  # type: ignore[index, call-overload]
    assert from_rows["graders"][0]["worst"][0]["place"] == "<python>:2"  # type: ignore[index, call-overload]


@needs_starter
def test_the_answers_of_a_run_are_graded_as_the_run_graded_them() -> None:
    run = finished()
    grader = run.settings.compare.grader
    result = graded(run.path / "answers" / "tuned.parquet", "--grader", grader, "--grader", "style", "--worst", 100)
    by_run, by_style = result["graders"]
    assert by_run["score"] == pytest.approx(run.verdict["arms"]["tuned"]["score"])  # type: ignore[index, call-overload]
    rows = [row for row in run.answers.to_pylist() if row["arm"] == "tuned" and row["score"] < 1]
    assert {row["place"] for row in by_run["worst"]} == {f"{row['file']}:{row['line']}" for row in rows}
    # The run's training answers are one word each, and it is from them that the voice was learned.
    assert by_style["metrics"]["distance"] > 0
    assert not any("wanted" in row["marks"] for row in by_style["worst"])


def test_graders_are_listed_with_what_they_measure() -> None:
    listed = json.loads(call("graders", "--json").out)
    assert [one["name"] for one in listed] == parts.names(GRADERS)
    (about_regex,) = [one for one in listed if one["name"] == "regex"]
    assert about_regex["measures"].startswith("Patterns: does the answer match")
    assert about_regex["settings"][0] == {
        "name": "pattern", "values": "text", "default": None,
        "description": "The regular expression, in Python's syntax.",
    }  # fmt: skip
    shown = call("graders").out
    assert all(name in shown for name in parts.names(GRADERS))
    assert "must be given" in call("graders", "regex").out
    refused(call("graders", "regx"), "Did you mean 'regex'?")


@needs_starter
def test_a_run_is_compared_by_a_grader_with_settings(tmp_path: Path) -> None:
    copy = shutil.copytree(finished().path, tmp_path / "run")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["compare"]["grader"] = "length:least=1000"
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    for answered in (copy / "answers").iterdir():
        answered.unlink()
    called = call("compare", copy, "--json")
    assert called.code == 0, called.err
    verdict = json.loads(called.out)
    assert verdict["grader"] == "length:least=1000"
    assert all(arm["score"] == 0 and arm["metrics"]["too_short"] == 1 for arm in verdict["arms"].values())


def test_a_run_with_a_grader_that_cannot_be_made_is_refused_before_it_begins(answers: Path, tmp_path: Path) -> None:
    called = call("run", answers, "--set", "compare.grader=regex", "--out", tmp_path / "run")
    refused(called, "compare.grader:", "regex.pattern: must be given")
    assert not (tmp_path / "run").exists()
