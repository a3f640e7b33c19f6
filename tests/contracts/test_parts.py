"""Every part in every folder keeps its folder's contract; a user's own parts are found the same way."""

import dataclasses
import inspect
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from arm_material import material

from luthier.core import parts
from luthier.core.errors import SettingsError
from luthier.core.types import Conversation, Finding, Grade, Message, Preference, Row, Text
from luthier.data.checking import DIMENSIONS, context_of
from luthier.data.examine import examine
from luthier.data.split import Assignment
from luthier.graders.making.describe import help_of
from luthier.verdict.questions import questions
from made_graders import grader_made, right_answer, wrong_answer

OWN_GRADER = '''
"""A grader of the user's own."""

from luthier.core.types import Grade


class Grader:
    meaning = "share of answers that shout"

    def grade(self, prompt, completion, answer):
        return Grade(float(completion.isupper()), {})

    def metrics(self, grades):
        return {"loud": sum(grade.score for grade in grades) / len(grades)}
'''
EXAMPLES = {
    "alpaca": {"instruction": "Add.", "input": "1 and 2", "output": "3"},
    "chatml": {"text": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"},
    "dolly": {"instruction": "Add.", "context": "1 and 2", "response": "3", "category": "sum"},
    "input_output": {"input": "1 and 2", "output": "3"},
    "inst": {"text": "<s>[INST] Hi [/INST] Hello</s>"},
    "openai": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    "openai_preference": {
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
        "preferred_output": [{"role": "assistant", "content": "Hello"}],
        "non_preferred_output": [{"role": "assistant", "content": "No"}],
    },
    "preference": {"prompt": "Hi", "chosen": "Hello", "rejected": "No"},
    "prompt_completion": {"prompt": "Hi", "completion": "Hello"},
    "question_answer": {"question": "Hi?", "answer": "Hello"},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    "text": {"text": "Once upon a time."},
}


def modules_of(package: str) -> list[ModuleType]:
    return [inspect.getmodule(parts.load(package, name, symbol)) for name, symbol in _symbols(package)]  # type: ignore[misc]


def _symbols(package: str) -> list[tuple[str, str]]:
    symbol = {
        "luthier.data.formats": "matches",
        "luthier.data.checks": "Check",
        "luthier.train.objectives": "Objective",
        "luthier.graders": "Grader",
        "luthier.verdict.arms": "Arm",
    }[package]
    return [(name, symbol) for name in parts.names(package)]


@pytest.mark.parametrize("name", parts.names("luthier.data.formats"))
def test_a_format_reads_the_rows_that_it_matches(name: str):
    assert name in EXAMPLES, f"add an example row of the format {name!r} to this test"
    matches, read = (parts.load("luthier.data.formats", name, symbol) for symbol in ("matches", "read"))
    assert matches(EXAMPLES[name]) is True
    content = read(json.loads(json.dumps(EXAMPLES[name])))
    assert isinstance(content, Conversation | Preference | Text)
    assert matches({"nothing": "of the kind"}) is False


@pytest.mark.parametrize("name", parts.names("luthier.data.checks"))
def test_a_check_says_what_it_is_for_and_finds_no_error_in_a_clean_set(name: str):
    check = parts.load("luthier.data.checks", name, "Check")
    assert check.dimension in DIMENSIONS
    assert len(check.effect) > 20 and len(check.blind) > 10
    questions = ["What is the height of Mont Blanc?", "Where does the Danube end?", "How warm is the sun inside?"]
    rows = [_row(number, question, f"answer {number}") for number, question in enumerate(questions, start=1)]
    for assignment in (_dealt(len(rows)), None):
        context = context_of(rows, assignment=assignment)
        found = examine({name: check(context)}, rows)[name]
        assert all(isinstance(finding, Finding) and finding.check == name for finding in found)
        assert {one for finding in found for one in finding.rows} <= {row.id for row in rows}
        assert [finding for finding in found if finding.severity == "error"] == []


@pytest.mark.parametrize("name", parts.names("luthier.train.objectives"))
def test_an_objective_says_how_rows_are_rendered_and_takes_a_policy_and_a_batch(name: str):
    objective = parts.load("luthier.train.objectives", name, "Objective")()
    assert objective.rendering in ("sft", "text")
    assert list(inspect.signature(objective.count).parameters) == ["batch"]
    assert list(inspect.signature(objective.loss).parameters) == ["policy", "batch"]


@pytest.mark.parametrize("name", parts.names("luthier.graders"))
def test_a_grader_gives_the_wanted_answer_everything_and_nonsense_less(name: str, tmp_path: Path):
    grader = grader_made(name, tmp_path)
    answer = right_answer(name)
    right, wrong = grader.grade("question", answer, answer), grader.grade("question", wrong_answer(name), answer)
    assert isinstance(right, Grade) and right.score == 1.0
    assert 0.0 <= wrong.score < 1.0
    metrics = grader.metrics([right, wrong])
    assert metrics and json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert isinstance(grader.meaning, str) and len(grader.meaning) > 10


@pytest.mark.parametrize("name", parts.names("luthier.graders"))
def test_the_settings_of_a_grader_are_frozen_fields_with_a_type_and_a_description(name: str):
    kind, described = parts.load("luthier.graders", name, "Grader"), help_of(name)
    assert described.measures[-1] in ".?!" and described.score
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    assert [setting.name for setting in described.settings] == [field.name for field in fields]
    for setting in described.settings:
        assert len(setting.description) > 10 and setting.description.endswith("."), setting.name
    assert not fields or kind.__dataclass_params__.frozen


@pytest.mark.parametrize("name", parts.names("luthier.verdict.arms"))
def test_an_arm_prompts_a_model_or_answers_by_itself(name: str):
    arm = parts.load("luthier.verdict.arms", name, "Arm")
    assert arm.weights in (None, "base", "tuned", "endpoint")
    if arm.weights is None:
        pairs = [("red apple", "fruit"), ("green pear", "fruit"), ("old oak", "tree"), ("tall fir", "tree")] * 3
        made = arm(pairs, pairs[:2], "accuracy", 0)
        assert made.answer(["a ripe apple"]) == ["fruit"]
        assert made.description
    else:
        assert arm.description
        candidates = arm().candidates(material())
        assert candidates and len({candidate.name for candidate in candidates}) == len(candidates)
        (question,) = questions([_row(9, "Where does the Rhine end?", "in the sea")])
        for candidate in candidates:
            messages = candidate.ask(question, 100)
            assert question.text in messages[-1].content and messages[-1].role == "user"
            assert candidate.ask(question, 0)[-1].content.endswith(question.text)


@pytest.mark.parametrize("package", ["data.formats", "data.checks", "train.objectives", "graders", "verdict.arms"])
def test_every_part_says_what_it_is_for(package: str):
    for module in modules_of(f"luthier.{package}"):
        assert module.__doc__, f"{module.__name__} has no docstring"


def test_a_wrong_name_gets_the_nearest_right_one():
    with pytest.raises(SettingsError, match=r"no 'acuracy' in graders\. Did you mean 'accuracy'\? There are: "):
        parts.load("luthier.graders", "acuracy", "Grader")


def test_a_part_in_the_users_folder_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "luthier_parts" / "graders"
    folder.mkdir(parents=True)
    (folder / "loud.py").write_text(OWN_GRADER)
    monkeypatch.chdir(tmp_path)
    assert "loud" in parts.names("luthier.graders")
    assert parts.load("luthier.graders", "loud", "Grader")().grade("", "YES", "").score == 1.0


def test_a_part_in_a_file_is_found_by_path_and_name(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(OWN_GRADER)
    assert parts.load("luthier.graders", f"{file}:Grader", "Grader")().meaning == "share of answers that shout"
    with pytest.raises(SettingsError, match="does not define 'Other'"):
        parts.load("luthier.graders", f"{file}:Other", "Grader")
    with pytest.raises(SettingsError, match="no file"):
        parts.load("luthier.graders", f"{tmp_path / 'none.py'}:Grader", "Grader")


def test_values_that_travel_are_frozen():
    from luthier.core import types

    made = [value for value in vars(types).values() if dataclasses.is_dataclass(value)]
    assert len(made) > 8
    assert all(value.__dataclass_params__.frozen for value in made)  # type: ignore[union-attr]


def _row(number: int, question: str, answer: str) -> Row:
    return Row(
        f"row-{number}",
        "file.jsonl",
        number,
        number,
        Conversation((Message("user", question), Message("assistant", answer))),
    )


def _dealt(num_rows: int) -> Assignment:
    return Assignment(
        ["train"] * num_rows, [None] * num_rows, [None] * num_rows, np.arange(num_rows), {"near_duplicate": 0.8}
    )
