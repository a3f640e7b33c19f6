"""Values that stand in the question are found there by a linear tagger; what is no copy is left to others."""

import json
import time
from pathlib import Path

import pytest

from luthier.core.types import JsonObject, JsonValue
from luthier.graders.json_fields import Grader
from luthier.verdict import filling
from luthier.verdict.arms.classical import Arm
from luthier.verdict.figures import number, objects
from luthier.verdict.filling import Field, fitted
from luthier.verdict.tagger import Example, Span, Tagger, words

SNIPS = Path(__file__).parents[2].parent / "shared" / "data" / "tasks" / "snips"
NAMES = ["Abba", "Blur", "The Who", "Air", "Pulp", "R.E.M.", "Sigur R\u00f3s", "AC/DC", "Massive Attack", "U2"]
CITIES = ["Rome", "New York", "Bonn", "Oslo", "San Jose", "Graz"]


def trips() -> tuple[list[str], list[JsonObject]]:
    """Rows in which only the words around a city tell which field it is the value of."""
    pairs = [(a, b) for a in CITIES for b in CITIES if a != b]
    asked = [f"from {a} to {b} for {n % 9 + 1} people" for n, (a, b) in enumerate(pairs)]
    return asked, [{"trip": {"from": a, "to": b}, "seats": n % 9 + 1, "ok": True} for n, (a, b) in enumerate(pairs)]


def test_words_keep_their_places_and_cut_digits_and_signs_apart() -> None:
    text = "R2D2, 5kg caf\u00e9 \u6771\u4eac"
    found = words(text)
    assert [word.text for word in found] == ["R", "2", "D", "2", ",", "5", "kg", "caf\u00e9", "\u6771", "\u4eac"]
    assert all(text[word.start : word.end] == word.text for word in found)
    assert len(words("a " * 5000)) == 400
    assert words(" \n") == []


def test_the_words_around_a_value_tell_its_field() -> None:
    asked, wanted = trips()
    found = fitted(asked, wanted, [""] * len(asked), (), 0)
    assert found is not None
    assert set(found.fields) == {
        Field(("trip", "from"), False, False, False), Field(("trip", "to"), False, False, False), Field(("seats",), False, False, True),
    }  # fmt: skip
    answer = found.filled(
        {"trip": {"from": "Rome", "to": "Rome"}, "seats": 4, "ok": True}, "from La Paz to Lima for 7 people", ""
    )
    assert answer == {"trip": {"from": "La Paz", "to": "Lima"}, "seats": 7, "ok": True}


def test_what_the_whole_text_is_about_helps() -> None:
    """The same words hold one field or another, as the hint says."""
    asked = [name for name in NAMES for _ in range(2)]
    wanted: list[JsonObject] = [{key: name} for name in NAMES for key in ("artist", "track")]
    found = fitted(asked, wanted, ["play", "rate"] * len(NAMES), (), 0)
    assert found is not None
    assert found.filled({}, "Oasis", "play") == {"artist": "Oasis"}
    assert found.filled({}, "Oasis", "rate") == {"track": "Oasis"}


def test_several_values_become_a_list_where_training_has_lists() -> None:
    asked = [f"order {a} and {b}" for a in NAMES for b in NAMES[:3]] + [f"order {a}" for a in NAMES]
    two: list[list[JsonValue]] = [[a, b] for a in NAMES for b in NAMES[:3]]
    one: list[list[JsonValue]] = [[a] for a in NAMES]
    orders = [*two, *one]
    wanted: list[JsonObject] = [{"items": order} for order in orders]
    lists = fitted(asked, wanted, [""] * len(asked), (), 0)
    assert lists is not None
    assert lists.filled({}, "order bread and wine", "") == {"items": ["bread", "wine"]}
    assert lists.filled({"items": ["old"]}, "order bread", "") == {"items": ["bread"]}
    single: list[JsonObject] = [{"items": order if len(order) > 1 else order[0]} for order in orders]
    mixed = fitted(asked, single, [""] * len(asked), (), 0)
    assert mixed is not None
    assert mixed.filled({}, "order bread", "") == {"items": "bread"}
    assert mixed.filled({}, "order bread and wine", "") == {"items": ["bread", "wine"]}


@pytest.mark.parametrize("always", [True, False])
def test_an_object_that_holds_nothing_stays_only_where_training_always_has_it(always: bool) -> None:
    asked = [f"call {name}" for name in NAMES] + ["stop"] * 5
    wanted: list[JsonObject] = [{"slots": {"who": name}} for name in NAMES]
    nothing: JsonObject = {"slots": {}} if always else {}
    wanted += [nothing] * 5
    found = fitted(asked, wanted, [""] * len(asked), (), 0)
    assert found is not None
    assert found.filled({"slots": {"who": "Abba"}}, "stop", "") == nothing
    assert found.filled({}, "call Oasis", "") == {"slots": {"who": "Oasis"}}


@pytest.mark.parametrize(
    "values",
    [
        ["yes", "no"] * 20, [True, False] * 20, [None] * 40, [[{"name": "Abba"}]] * 40, [1.5] * 40, [""] * 40, [[]] * 40,
    ],
)  # fmt: skip
def test_what_is_no_copy_is_left_alone(values: list[JsonValue]) -> None:
    wanted: list[JsonObject] = [{"x": value} for value in values]
    assert fitted(["call Abba please"] * 40, wanted, [""] * 40, (), 0) is None
    yes: list[JsonObject] = [{"x": "yes"}] * 40
    assert fitted(["yes or no or Abba"] * 40, yes, [""] * 40, ["x"], 0) is None


def test_of_many_words_as_many_are_learned_from_as_take_seconds() -> None:
    questions = ["word " * 400 + f"from {CITIES[n % 6]}" for n in range(1_000)]
    drawn = filling._drawn(questions, 0)
    assert 150_000 <= sum(len(found) for found in drawn.values()) < 151_000
    assert list(drawn) == sorted(drawn) and drawn.keys() != filling._drawn(questions, 1).keys()
    assert filling._drawn(questions[:9], 0).keys() == set(range(9))


def test_the_same_rows_and_seed_give_the_same_tags() -> None:
    examples = [Example(words(f"from {a} to {b}"), "", (Span(0, 1, len(words(a))),)) for a in CITIES for b in CITIES]
    one, other = (Tagger(examples, 1, 3) for _ in range(2))
    for text in ("from Lima to Rome", "to Rome", "x " * 50, "\u00df\u0130 \U0001f600"):
        assert one.spans(words(text), "") == other.spans(words(text), "")
    assert one.spans([], "") == []
    assert one.spans(words("from Lima to Rome"), "") == [Span(0, 1, 1)]


def test_the_arm_takes_the_tagger_where_it_is_better_on_validation_rows() -> None:
    asked, objects = trips()
    rows = [(one, json.dumps(answer)) for one, answer in zip(asked, objects, strict=True)]
    arm = Arm(rows, rows[:5], "json_fields", 0)
    assert "trip.from" in arm.description and "by a linear tagger" in arm.description
    (answer,) = arm.answer(["from Cork to Lima for 2 people"])
    assert json.loads(answer) == {"trip": {"from": "Cork", "to": "Lima"}, "seats": 2, "ok": True}
    contrary = [(f"from {a} to {b} for 3 people", rows[0][1]) for a, b in (("Cork", "Lima"), ("Lima", "Cork"))]
    assert "tagger" not in Arm(rows, contrary, "json_fields", 0).description


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize(("file", "least"), [("train_small.jsonl", 0.85), ("train.jsonl", 0.945)])
def test_snips_reaches_what_linear_taggers_reach_in_seconds(file: str, least: float) -> None:
    """300 rows an intent, and all of them without those whose text is in the test."""
    train, test = snips(file), snips("test.jsonl")
    asked = {question.strip().casefold() for question, _ in test}
    train = [row for row in train if row[0].strip().casefold() not in asked]
    start = time.process_time()
    arm = Arm([row for n, row in enumerate(train) if n % 20], train[::20], "json_fields", 0)
    answers = arm.answer([question for question, _ in test])
    seconds = time.process_time() - start
    grader = Grader()
    metrics = grader.metrics(
        [grader.grade("", answer, wanted) for answer, (_, wanted) in zip(answers, test, strict=True)]
    )
    found = number(objects(metrics["groups"])["slots"], "f1")
    print(f"{file}: slot F1 {found:.4f}, whole objects {number(metrics, 'exact'):.4f}, {seconds:.1f} s")
    assert found > least
    assert seconds < 60


def snips(file: str) -> list[tuple[str, str]]:
    if not SNIPS.exists():
        pytest.skip(f"the SNIPS data are not at {SNIPS}")
    rows = map(json.loads, (SNIPS / file).read_text(encoding="utf-8").splitlines())
    return [(row["text"], json.dumps({"intent": row["intent"], "slots": row["slots"]})) for row in rows]
