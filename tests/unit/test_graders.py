"""Graders give the figures that well-known libraries give, and the answers that a reader expects."""

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.chrf import CHRF
from sklearn.metrics import f1_score

from luthier.core import parts
from luthier.core.types import Grade, Grader
from luthier.graders import accuracy, exact, json_fields, number, text
from luthier.verdict.choose import choose_grader
from made_graders import grader_made, right_answer

HOSTILE = [
    "9" * 1_000_000,
    "a. " * 100_000,
    "[" + ",".join(["[]", "1", '"a"', "{}"] * 20_000) + "]",
    "<tool_call>" * 20_000,
    "[" * 200_000,
]
WORDS = st.text(alphabet="abAB .é\n", max_size=30)


def figures(grader: Grader, pairs: list[tuple[str, str]]) -> dict:
    """Grade (completion, wanted) pairs as a run does: marks go through JSON before they add up."""
    grades = [grader.grade("", completion, wanted) for completion, wanted in pairs]
    stored = [Grade(grade.score, json.loads(json.dumps(dict(grade.marks)))) for grade in grades]
    return grader.metrics(stored)


@pytest.mark.parametrize("name", parts.names("luthier.graders"))
@pytest.mark.parametrize(
    "completion", ["", "{}", "yes", '{"a": [1, null]}', "\ud800", "x" * 5000, "9" * 5000, "[" * 5000]
)
def test_every_grader_survives_any_completion_and_its_marks_are_json(
    name: str, completion: str, tmp_path: Path
) -> None:
    grader = grader_made(name, tmp_path)
    grade = grader.grade("question", completion, '{"a": 1}')
    assert 0 <= grade.score <= 1
    metrics = grader.metrics([Grade(grade.score, json.loads(json.dumps(dict(grade.marks))))])
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert grader.meaning


@pytest.mark.parametrize("name", [name for name in parts.names("luthier.graders") if name != "code_runs"])
def test_no_grader_is_stopped_by_a_hostile_megabyte(name: str, tmp_path: Path) -> None:
    grader = grader_made(name, tmp_path)
    answer = right_answer(name)
    for completion in HOSTILE:
        begun = time.monotonic()
        assert 0 <= grader.grade("question", completion, answer).score <= 1
        assert time.monotonic() - begun < 20, completion[:40]


@settings(max_examples=20, deadline=None)
@given(st.text() | st.sampled_from(["\x00", "[" * 99 + "]" * 99, "<tool_call>{", "1e999", "NaN"]), st.text())
def test_no_text_stops_a_grader(completion: str, wanted: str) -> None:
    for name, grader in made_once().items():
        grade = grader.grade(wanted, completion, wanted)
        assert 0 <= grade.score <= 1, name
        json.dumps(grader.metrics([grade]), allow_nan=False)


@cache
def made_once() -> dict[str, Grader]:
    with TemporaryDirectory() as folder:
        names = [name for name in parts.names("luthier.graders") if name != "code_runs"]
        return {name: grader_made(name, Path(folder)) for name in names}


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcd")), min_size=1, max_size=40))
def test_macro_f1_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    wanted = [pair[1] for pair in pairs]
    predicted = [pair[0] for pair in pairs]
    expected = f1_score(wanted, predicted, average="macro", zero_division=0)
    assert figures(accuracy.Grader(), pairs)["macro_f1"] == pytest.approx(expected, abs=1e-12)


def test_labels_differ_only_by_meaning() -> None:
    grader = accuracy.Grader()
    assert grader.grade("", ' "Card  Arrival". ', "card arrival").score == 1
    assert grader.grade("", "card_arrival", "card arrival").score == 0
    assert grader.grade("", "", "card arrival").score == 0


def test_label_metrics_name_the_invented_and_the_confused() -> None:
    metrics = figures(accuracy.Grader(), [("a", "a"), ("b", "a"), ("b", "a"), ("b", "b"), ("zebra", "b")])
    assert metrics["accuracy"] == 0.4
    assert metrics["unknown_labels"] == 0.2
    assert metrics["confusions"][0] == {"wanted": "a", "predicted": "b", "times": 2}
    assert metrics["labels"]["a"] == {"precision": 1.0, "recall": 1 / 3, "f1": 0.5, "support": 3}
    assert "zebra" not in metrics["labels"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_chrf_is_that_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    oracle = CHRF()
    grader = text.Grader()
    for completion, wanted in pairs:
        expected = oracle.sentence_score(completion, [wanted]).score
        assert grader.grade("", completion, wanted).score * 100 == pytest.approx(expected, abs=1e-9)
    expected = oracle.corpus_score([pair[0] for pair in pairs], [[pair[1] for pair in pairs]]).score
    assert figures(grader, pairs)["chrf"] == pytest.approx(expected, abs=1e-9)


def test_text_metrics_tell_raw_from_normalized_matches() -> None:
    metrics = figures(text.Grader(), [("Bye for now.", "Bye for now."), ("bye  for now", "Bye for now."), ("x", "y z")])
    assert metrics["exact"] == pytest.approx(1 / 3)
    assert metrics["exact_normalized"] == pytest.approx(2 / 3)
    assert metrics["token_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_exact_forgives_spelling_where_it_is_asked_to() -> None:
    grader = exact.Grader(forgive_spelling=True)
    assert [grader.grade("", text, "Yes").score for text in (' "YES". ', "Yes!", "no")] == [1, 0, 0]


def test_exact_forgives_only_space_at_the_ends() -> None:
    grader = exact.Grader()
    assert grader.grade("", " Yes\n", "Yes").score == 1
    assert grader.grade("", "yes", "Yes").score == 0
    assert figures(grader, [("yes", "Yes"), ("Yes", "Yes")]) == {"exact": 0.5, "exact_normalized": 1.0}


@pytest.mark.parametrize(
    ("completion", "wanted", "right"),
    [
        ("She makes 9 * 2 = $18 every day.\n#### 18", "... <<9*2=18>>18\n#### 18", True),
        ("the result is 1,234.50 dollars", "1234.5", True),
        ("It costs \u20ac 1\u202f000.", "1000", True),
        ("50 %", "50%", True),
        ("about -3", "\u22123", True),
        ("pages 3-5", "5", True),
        ("1/2", "0.5", True),
        ("3/2", "1/2", False),
        ("#### 18 is my answer, with 99 % certainty", "18", True),
        ("12,34", "34", True),
        ("1e3", "1000", True),
        ("no idea", "18", False),
        ("19", "18", False),
        (".5", "0.5", True),
        ("1/0", "1", True),
    ],
)
def test_numbers_are_found_and_compared_by_value(completion: str, wanted: str, right: bool) -> None:
    assert number.Grader().grade("", completion, wanted).score == float(right)


def test_a_wanted_text_without_a_number_is_never_right() -> None:
    metrics = figures(number.Grader(), [("none", "none"), ("3", "3")])
    assert metrics == {"accuracy": 0.5, "no_number": 0.5}


def leaf_score(completion: str, wanted: str) -> float:
    return json_fields.Grader().grade("", completion, wanted).score


def test_json_scores_the_share_of_right_leaves() -> None:
    wanted = '{"intent": "play", "slots": {"artist": "Abba", "year": 1976}}'
    assert leaf_score('{"slots": {"year": 1976, "artist": " Abba "}, "intent": "play"}', wanted) == 1
    assert leaf_score('{"intent": "play", "slots": {"artist": "Abba"}}', wanted) == pytest.approx(0.8)
    assert leaf_score('{"intent": "play", "slots": {"artist": "Abba", "year": "1976"}}', wanted) == pytest.approx(2 / 3)
    assert leaf_score("```json\n" + wanted + "\n```", wanted) == 0
    assert leaf_score("{}", "{}") == 1
    assert leaf_score("{}", wanted) == 0


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1", "1.0", True),
        ("1", '"1"', False),
        ("1", "true", False),
        ("null", '"null"', False),
        ('["b", "a"]', '["a", "b"]', True),
        ('["a", "a"]', '["a"]', False),
        ('["a"]', '"a"', False),
        ('{"a": {"b": 1}}', '{"a.b": 1}', False),
        ("NaN", "NaN", True),  # not JSON on either side: compared as a whole
        ("NaN", "1", False),
    ],
)
def test_json_values_are_compared_with_their_types(left: str, right: str, same: bool) -> None:
    assert (leaf_score(left, right) == 1) is same
    assert json_fields.Grader().grade("", left, right).marks["exact"] is same


def test_json_exact_sees_which_value_belongs_to_which_element() -> None:
    wanted = '[{"n": 1, "v": "x"}, {"n": 2, "v": "y"}]'
    swapped = '[{"n": 1, "v": "y"}, {"n": 2, "v": "x"}]'
    assert leaf_score(swapped, wanted) == 1
    assert json_fields.Grader().grade("", swapped, wanted).marks["exact"] is False


def test_json_metrics_add_up_by_field_group_and_key() -> None:
    metrics = figures(
        json_fields.Grader(),
        [
            ('{"intent": "play", "slots": {"artist": "Abba"}}', '{"intent": "play", "slots": {"artist": "Abba"}}'),
            ('{"intent": "rate", "slots": {"book": "It"}}', '{"intent": "play", "slots": {"artist": "Queen"}}'),
            ("not json", '{"intent": "rate", "slots": {"book": "It"}}'),
        ],
    )
    assert metrics["json_valid"] == pytest.approx(2 / 3)
    assert metrics["exact"] == pytest.approx(1 / 3)
    assert (metrics["precision"], metrics["recall"]) == (pytest.approx(2 / 4), pytest.approx(2 / 6))
    assert metrics["keys"] == {"intent": pytest.approx(1 / 3)}
    assert metrics["groups"]["slots"] == {"precision": 0.5, "recall": pytest.approx(1 / 3), "f1": 0.4, "support": 3}
    assert metrics["fields"]["slots.artist"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab ", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.randoms())
def test_json_order_of_keys_and_elements_never_matters(value: object, random: Callable) -> None:
    grade = json_fields.Grader().grade("", json.dumps(_shuffled(value, random)), json.dumps(value))
    assert grade.score == 1
    assert grade.marks["exact"] is True


def _shuffled(value: object, random: Callable) -> object:
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: _shuffled(value[key], random) for key in keys}
    if isinstance(value, list):
        inner = [_shuffled(element, random) for element in value]
        random.shuffle(inner)
        return inner
    return value


@pytest.mark.parametrize(
    ("answers", "grader"),
    [
        (['{"a": 1}'] * 19 + ["oops"], "json_fields"),
        (['{"a": 1}'] * 10 + ["oops"] * 10, "accuracy"),
        ([f"step by step\n#### {n}" for n in range(40)], "number"),
        ([f"${n},000.00" for n in range(1, 60)], "number"),
        (["1", "2", "3", "4", "5"] * 10, "accuracy"),
        (["3", "14", "15", "92", "65"], "number"),
        ([f"label_{n}" for n in range(6)] * 10, "accuracy"),
        ([f"intent {n}" for n in range(400)] * 20, "accuracy"),
        (["yes", "no", "no"], "accuracy"),
        ([f"A sentence of its own, number {word}." for word in "abcdefghijkl"], "text"),
        (["one", "two"], "text"),
        (["a much longer answer than any label would ever be, which goes on over eighty characters"] * 9, "text"),
    ],
)
def test_the_grader_is_chosen_by_the_answers(answers: list[str], grader: str) -> None:
    name, reason = choose_grader(answers)
    assert name == grader
    assert reason.endswith(".")
