"""Rows made by swapping copied values: question and answer change alike, and nothing held out is asked."""

import json

import pytest

from luthier.core.errors import DataError
from luthier.core.types import Conversation, Message, Row
from luthier.data.copied import is_copy
from luthier.data.swaps import asked_key, swapped

NAMES = ["Ann Lee", "Zoe", "Bo Day", "Cy"]
CITIES = ["Rome", "New York", "Oslo"]


def row(number: int, question: str, answer: object) -> Row:
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    turns = (Message("system", "Extract."), Message("user", question), Message("assistant", text))
    return Row(f"row{number}", "a.jsonl", number, number, Conversation(turns))


def rows() -> list[Row]:
    calls = [row(n, f"call {name} now", {"kind": "ring", "slots": {"who": name}}) for n, name in enumerate(NAMES)]
    trips = [
        row(10 + n, f"from {a} to {b} with {name}", {"kind": "trip", "slots": {"cities": [a, b], "who": name}})
        for n, (a, b, name) in enumerate(zip(CITIES, [*CITIES[1:], CITIES[0]], NAMES))
    ]
    return calls + trips


def texts(row: Row) -> tuple[str, dict]:
    assert isinstance(row.content, Conversation)
    return row.content.messages[-2].content, json.loads(row.content.messages[-1].content)


def test_made_rows_are_new_questions_whose_answers_are_copies_of_them() -> None:
    made = swapped(rows(), 3, 0, ())
    assert len(made) > 8
    asked = {asked_key(texts(row)[0]) for row in [*rows(), *made]}
    assert len(asked) == len(rows()) + len(made)
    for one in made:
        question, answer = texts(one)
        slots = answer["slots"]
        assert is_copy(slots["who"], question) and all(is_copy(city, question) for city in slots.get("cities", []))
        assert question.startswith("call" if answer["kind"] == "ring" else "from")
        assert one.content.messages[0] == Message("system", "Extract.")


def test_values_come_from_the_same_field_of_rows_with_the_same_labels() -> None:
    made = [texts(one) for one in swapped(rows(), 4, 1, ())]
    assert all(answer["slots"]["who"] in NAMES[:3] for _, answer in made if answer["kind"] == "trip")
    assert all({*answer["slots"].get("cities", [])} <= {*CITIES} for _, answer in made)


def test_what_is_held_out_is_not_asked_and_without_it_would_be() -> None:
    held_out = {asked_key(f"From {a} to {b}, with {name}!") for a in CITIES for b in CITIES for name in NAMES}
    kinds = [texts(one)[1]["kind"] for one in swapped(rows(), 4, 1, ())]
    assert "trip" in kinds
    assert "trip" not in [texts(one)[1]["kind"] for one in swapped(rows(), 4, 1, held_out)]


def test_the_same_seed_makes_the_same_rows_and_half_a_share_about_half() -> None:
    many = [row(n, f"call {name} {n}", {"who": name}) for n, name in enumerate(NAMES * 50)]
    made = swapped(many, 1, 0, ())
    assert made == swapped(many, 1, 0, ()) != swapped(many, 1, 1, ())
    assert 0.35 < len(swapped(many, 0.5, 0, ())) / len(made) < 0.65


def test_a_value_that_stands_twice_or_inside_another_stays() -> None:
    told = [
        row(n, f"{name} is {name}, in {place} Hall", {"who": name, "hall": f"{place} Hall", "place": place})
        for n, (name, place) in enumerate(zip(NAMES, "ABCD"))
    ]
    assert swapped(told, 2, 0, ()) == []


def test_answers_that_do_not_extract_are_refused() -> None:
    with pytest.raises(DataError, match=r"train\.swaps"):
        swapped([row(1, "what is it?", "a label")], 1, 0, ())
