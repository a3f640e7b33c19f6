"""Graders are made of what the user wrote: names, settings, files; what is wrong is said with the nearest right word."""

import sys
from pathlib import Path

import pytest

from luthier.core.errors import SettingsError
from luthier.core.types import Grader
from luthier.graders import contains, length, regex, style
from luthier.graders.making.describe import help_of
from luthier.graders.making.spec import grader_named, graders_named, learned, needs_answer

OWN = '''
"""Shouting: how loud is the answer?"""

from dataclasses import dataclass

from luthier.core.types import Grade


@dataclass(frozen=True)
class Shouts:
    """1 if the answer has enough exclamation marks."""

    meaning = "share of answers that shout"

    least: int = 1
    """The fewest exclamation marks."""

    def grade(self, prompt, completion, answer):
        return Grade(float(completion.count("!") >= self.least), {})

    def metrics(self, grades):
        return {"loud": sum(grade.score for grade in grades) / len(grades)}


class Plain:
    def grade(self, prompt, completion, answer):
        return Grade(1.0, {})

    def metrics(self, grades):
        return {}


class NoGrader:
    pass
'''


def test_a_grader_is_named_with_its_settings() -> None:
    assert grader_named("exact").meaning == "share of answers that equal the wanted text"
    made = grader_named("regex:pattern=^\\d{1,3}$,where=whole,ignore_case=true")
    assert made.grader == regex.Grader(pattern="^\\d{1,3}$", where="whole", ignore_case=True)
    assert made.name == "regex:pattern=^\\d{1,3}$,where=whole,ignore_case=true"
    assert grader_named("length:least=2,most=9,unit=lines").grader == length.Grader(least=2, most=9, unit="lines")
    assert grader_named("contains:texts=[red, blue],need=any").grader == contains.Grader(("red", "blue"), "any")
    assert grader_named("contains:texts=red").grader == contains.Grader(("red",))
    assert grader_named("regex:pattern=3").grader == regex.Grader(pattern="3")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("regx", "Did you mean 'regex'?"),
        ("regex", "regex.pattern: must be given, as in --grader regex:pattern=..."),
        ("regex:patern=x", "regex.patern: there is no such setting. Did you mean 'pattern'?"),
        ("regex:pattern", "expected setting=value after the name, found 'pattern'"),
        ("regex:pattern=x,where=middle", "regex.where: input should be 'anywhere' or 'whole', found 'middle'"),
        ("length:least=two", "length.least: input should be a valid integer"),
        ("length:least=[", "length.least: '[' is not a YAML value"),
        ("accuracy:case=true", "accuracy.case: there is no such setting. It takes none."),
        ("number:tolerance=2", "number.tolerance: input should be less than 1, found 2"),
        ("none.py:Grader", "there is no file none.py"),
        ("none.yaml", "there is no settings file none.yaml"),
    ],
)
def test_what_cannot_be_made_says_why(spec: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        graders_named([spec])
    assert words in str(caught.value)


def test_a_class_in_a_file_is_a_grader_with_settings(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    made = grader_named(f"{tmp_path}/own.py:Shouts:least=2")
    assert made.grader.grade("", "no!", "").score == 0
    assert made.grader.grade("", "no!!", "").score == 1
    assert made.meaning == "share of answers that shout"
    assert grader_named(f"{tmp_path}/own.py:Plain").grader.grade("", "", "").score == 1
    with pytest.raises(SettingsError, match="is no grader: a grader is a class with the methods"):
        grader_named(f"{tmp_path}/own.py:NoGrader")
    described = help_of(f"{tmp_path}/own.py:Shouts")
    assert described.measures == "Shouting: how loud is the answer?"
    (setting,) = described.settings
    assert (setting.name, setting.values, setting.default) == ("least", "integer", "1")
    assert setting.description == "The fewest exclamation marks."


def test_a_file_holds_several_graders_with_paths_beside_it(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("rules:\n  - {name: greets, must_say: hello}\n")
    (tmp_path / "graders.yaml").write_text(
        "graders:\n  - grader: policy\n    rules: rules.yaml\n  - grader: regex\n    pattern: 'a,b=c'\n    as: letters\n"
        "  - {type: string_check, name: same, input: '{{sample.output_text}}', reference: '{{item.answer}}', operation: eq}\n"
    )
    made = graders_named([str(tmp_path / "graders.yaml"), "exact"])
    assert [one.name for one in made] == ["policy", "letters", "same", "exact"]
    assert [one.grader.grade("", "hello a,b=c", "hello a,b=c").score for one in made] == [1, 1, 1, 1]
    assert [one.grader.grade("", "no", "hello").score for one in made] == [0, 0, 0, 0]
    with pytest.raises(SettingsError, match="holds 3 graders where one is asked for"):
        grader_named(str(tmp_path / "graders.yaml"))


def test_a_setting_that_is_a_file_does_not_make_the_grader_a_file_of_graders(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("rules:\n  - {name: greets, must_say: hello}\n")
    (tmp_path / "shape.json").write_text('{"type": "object"}')
    assert grader_named(f"policy:rules={tmp_path}/rules.yaml").grader.grade("", "hello", "").score == 1
    assert grader_named(f"json_schema:schema={tmp_path}/shape.json").grader.grade("", "[]", "").score == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- exact", "grader 1: expected a mapping with `grader: NAME`"),
        ("- {pattern: x}", "grader 1: `grader: NAME` is missing"),
        ("- {grader: exact}\n- {grader: exact}", "the grader 'exact' is given twice"),
        ("- {grader: regex, pattern: 3}", "regex.pattern: input should be a valid string"),
        ("[", "is not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "graders.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        graders_named([str(tmp_path / "graders.yaml")])
    assert words in str(caught.value)


def test_only_graders_that_can_learn_do() -> None:
    fixed, learner = grader_named("exact"), grader_named("style")
    assert learned(fixed, ["x"]) is fixed
    assert learned(learner, []) is learner
    taught: Grader = learned(learner, ["Hello there."]).grader
    assert taught == style.Grader(answers=("Hello there.",))
    assert needs_answer(learner.grader) and not needs_answer(taught) and needs_answer(fixed.grader)


def test_the_help_of_a_grader_says_what_must_be_given() -> None:
    settings = {setting.name: setting for setting in help_of("regex").settings}
    assert settings["pattern"].default is None
    assert settings["where"].values == "anywhere, whole"
    assert help_of("length").settings[0].values == "integer"
    assert help_of("contains").settings[0].values == "list of texts"
    assert help_of("code_runs").settings[0].values == "file"


def test_a_module_of_graders_does_not_hide_the_package_of_the_same_name() -> None:
    import regex as package

    assert package is sys.modules["regex"] and package is not regex
