"""The classical arm learns labels, keeps to the fields it can know, and is honest about its limits."""

import json
import time
from pathlib import Path

import pytest

from luthier.graders.accuracy import Grader as Accuracy
from luthier.graders.json_fields import Grader as JsonFields
from luthier.verdict.arms.classical import Arm

BANKING77 = Path(__file__).parents[2].parent / "shared" / "data" / "tasks" / "banking77"

COLOURS = {"red": "a red rose", "blue": "the blue sea", "green": "green grass"}
LABELS = [(f"I would like {text}, number {n}", colour) for n in range(30) for colour, text in COLOURS.items()]


def banking(name: str) -> list[tuple[str, str]]:
    path = BANKING77 / name
    if not path.exists():
        pytest.skip(f"the Banking77 data are not at {path}")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row["label"]) for row in rows]


def accuracy(arm: Arm, rows: list[tuple[str, str]]) -> float:
    answers = arm.answer([question for question, _ in rows])
    return sum(Accuracy().grade("", answer, wanted).score for answer, (_, wanted) in zip(answers, rows)) / len(rows)


def test_labels_come_from_the_words() -> None:
    arm = Arm(LABELS, LABELS[:9], "accuracy", 0)
    assert arm.answer(["please, one red rose", "grass that is green"]) == ["red", "green"]
    assert arm.answer([]) == []
    assert "90 training rows" in arm.description
    assert "33.3 %" in arm.description


def test_a_tenth_of_banking77_beats_the_most_common_label_by_far() -> None:
    train, test = banking("train.jsonl")[::10], banking("test.jsonl")[::10]
    arm = Arm(train, [], "accuracy", 0)
    assert accuracy(arm, test) > 0.70
    assert sum(wanted == arm.majority for _, wanted in test) / len(test) < 0.05


@pytest.mark.nightly
@pytest.mark.slow
def test_banking77_reaches_what_linear_models_reach_in_seconds() -> None:
    train, test = banking("train.jsonl"), banking("test.jsonl")
    start = time.process_time()
    arm = Arm([row for n, row in enumerate(train) if n % 20], train[::20], "accuracy", 0)
    assert accuracy(arm, test) >= 0.895
    assert time.process_time() - start < 40


def test_validation_rows_decide_between_the_candidates() -> None:
    kept = sorted({label for _, label in banking("test.jsonl")})[:25]
    train, test = ([row for row in banking(name) if row[1] in kept] for name in ("train.jsonl", "test.jsonl"))
    train, test = train[::15], test[::3]
    first = Arm(train, [], "accuracy", 0)
    assert "C = 1)" in first.description
    answers = first.answer([question for question, _ in test])
    hard = [row for row, answer in zip(test, answers, strict=True) if answer != row[1]]
    chosen = Arm(train, hard, "accuracy", 0)
    assert "C = 1)" not in chosen.description
    assert accuracy(chosen, hard) > 0


@pytest.mark.parametrize("grader", ["accuracy", "json_fields", "number", "text", "exact"])
@pytest.mark.parametrize(
    "train",
    [
        [("one question", "one answer")],
        [("a", "same")] * 5,
        [("", "x"), (" ", "y"), ("\n", "x")],
        [("!", "yes"), ("?", "no")],
        [("q", '{"a": 1}'), ("r", "not json"), ("s", '{"a": {"b": 2}}'), ("t", "[1]")],
    ],
)
def test_poor_data_get_an_answer_from_the_training_rows(train: list[tuple[str, str]], grader: str) -> None:
    arm = Arm(train, train[:1], grader, 0)
    wanted = {answer for _, answer in train}
    assert set(arm.answer(["", "one question", "a q"])) <= wanted
    assert arm.majority in wanted


def test_other_answers_come_from_the_most_similar_question() -> None:
    train = [
        ("how much are two apples", "#### 4"),
        ("how far is the moon", "#### 384400"),
        ("what is a day", "#### 24"),
    ]
    arm = Arm(train, [], "number", 0)
    assert arm.answer(["how far away is our moon?"]) == ["#### 384400"]


def test_json_keys_with_few_values_are_predicted_and_the_rest_agrees_with_them() -> None:
    artists = ["Abba", "Queen", "Blur", "Air", "Pulp", "Suede", "Ash", "Oasis", "Dodgy", "Elastica"]
    rows = [
        (f"{verb} {artist}", json.dumps({"intent": intent, "slots": {slot: artist}}))
        for artist in artists
        for verb, intent, slot in (("play", "play", "artist"), ("rate", "rate", "object"))
    ]
    arm = Arm(rows, rows[:4], "json_fields", 0)
    assert "intent by" in arm.description
    play, rate = (json.loads(answer) for answer in arm.answer(["play Pulp", "rate Pulp"]))
    assert play == {"intent": "play", "slots": {"artist": "Pulp"}}
    assert rate == {"intent": "rate", "slots": {"object": "Pulp"}}
    assert JsonFields().grade("", arm.answer(["play Zappa"])[0], '{"intent": "play"}').marks["valid"]


def test_a_key_that_some_answers_lack_can_be_left_out() -> None:
    with_flag = [(f"urgent message {n}", json.dumps({"urgent": True, "n": "x"})) for n in range(20)]
    without = [(f"calm letter {n}", json.dumps({"n": "x"})) for n in range(20)]
    arm = Arm(with_flag + without, [], "json_fields", 0)
    assert [json.loads(answer) for answer in arm.answer(["an urgent thing", "a calm letter"])] == [
        {"urgent": True, "n": "x"},
        {"n": "x"},
    ]


def test_the_same_seed_gives_the_same_answers() -> None:
    questions = [question for question, _ in LABELS[::7]]
    first, second = (Arm(LABELS, LABELS[:9], "accuracy", 3).answer(questions) for _ in range(2))
    assert first == second


def test_more_text_than_can_be_counted_quickly_is_sampled_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.verdict.arms.classical._MOST_CHARACTERS", 1000)
    arm = Arm(LABELS, [], "accuracy", 0)
    assert "of 90 training rows" in arm.description
    assert arm.answer(["a red rose"]) == ["red"]
