"""Values that do not stand in the question are found in extracted fields only, and fields that like rows fill."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from luthier.config.settings import DataSettings, SplitSettings
from luthier.core.types import Conversation, Finding, JsonObject, Message, Row
from luthier.data.checking import context_of
from luthier.data.checks.extraction import Check
from luthier.data.examine import examine
from luthier.data.read import read
from luthier.data.split import Assignment, row_key, split

CITIES = "Oslo Rome Bern Lima Cairo Delhi Quito Dakar Riga Minsk".split()
SNIPS = Path(__file__).parents[2].parent / "shared" / "data" / "tasks" / "snips" / "train_small.jsonl"


def row(line: int, asked: str, value: JsonObject) -> Row:
    turns = (Message("user", asked), Message("assistant", json.dumps(value)))
    return Row(f"r{line}", "a.jsonl", line, line, Conversation(turns))


def weather(line: int, city: str = "") -> Row:
    city = city or CITIES[line % len(CITIES)]
    asked = f"how warm will it be in {city.upper()} on day {line}?"
    return row(line, asked, {"intent": "weather", "city": city, "day": line})


def dealt(rows: Sequence[Row]) -> Assignment:
    return split([row_key(one) for one in rows], SplitSettings(), 0, has_test=False, has_validation=False)


def find(rows: Sequence[Row], assignment: Assignment | None = None) -> list[Finding]:
    return examine({"extraction": Check(context_of(rows, assignment=assignment))}, rows)["extraction"]


def test_a_value_from_nowhere_is_found_and_an_enumerated_field_is_not_asked_for() -> None:
    rows = [weather(line) for line in range(1, 60)]
    assert find(rows) == []
    rows[6] = row(7, "how warm will it be in Rome on day 7?", {"intent": "weather", "city": "Paris", "day": 7})
    (finding,) = find(rows)
    assert finding.rows == ("r7",) and finding.kind == "value-not-in-question"
    assert "'Paris' in 'city'" in finding.detail and "a.jsonl:7" in finding.detail


def test_a_part_of_a_word_is_not_the_value() -> None:
    rows = [weather(line) for line in range(1, 60)]
    rows[6] = row(7, "how warm will it be in Romeville on day 7?", {"intent": "weather", "city": "Rome", "day": 7})
    assert [one.rows for one in find(rows)] == [("r7",)]


def test_a_field_that_a_like_row_fills_is_missed() -> None:
    rows = [weather(line) for line in range(1, 60)]
    asked = "please tell me how cold and windy it will get tonight in the north of Oslo"
    rows.append(row(60, asked, {"intent": "weather", "city": "Oslo"}))
    rows.append(row(61, f"{asked} too", {"intent": "weather"}))
    (finding,) = find(rows, dealt(rows))
    assert finding.kind == "field-left-out" and finding.rows == ("r61", "r60") and "'city'" in finding.detail
    rows[-1] = row(61, f"{asked} too", {"intent": "weather", "place": "north of Oslo"})
    assert find(rows, dealt(rows)) == []


@pytest.mark.skipif(not SNIPS.exists(), reason="needs ../shared/data")
def test_the_slots_of_snips_stand_in_their_questions() -> None:
    settings = DataSettings(input="text", output=("intent", "slots"))
    rows = [one for one in read(str(SNIPS), settings, lambda _: None) if isinstance(one, Row)]
    flagged = {one for finding in find(rows, dealt(rows)) for one in finding.rows}
    assert len(flagged) < 0.01 * len(rows)
