"""The experiment on clean data: errors are planted as it says, decisions are edited as it says, the page is its result."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from luthier.core.types import JsonObject

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("clean_data")


def rows(count: int) -> list[JsonObject]:
    return [{"text": f"question {number}", "label": f"label {number % 7}"} for number in range(count)]


def test_exactly_the_share_gets_another_label_and_every_other_label_comes_up(bench: ModuleType):
    wrong = bench.corrupted(rows(700), 0.2, seed=1)
    changed = [(old, new) for old, new in zip(rows(700), wrong) if old != new]
    assert len(changed) == 140
    assert all(old["text"] == new["text"] and old["label"] != new["label"] for old, new in changed)
    assert {new["label"] for _, new in changed} == {f"label {number}" for number in range(7)}
    assert wrong == bench.corrupted(rows(700), 0.2, seed=1) != bench.corrupted(rows(700), 0.2, seed=2)


def decision(line: int, proposal: JsonObject | None) -> JsonObject:
    return {"line": line, "action": "keep", "before": {"text": "a", "label": "wrong"}, "proposal": proposal}


def proposing(label: str) -> JsonObject:
    return {"action": "fix", "after": {"text": "a", "label": label}}


def test_each_user_edits_the_decisions_in_a_way_of_its_own(bench: ModuleType):
    doubted = decision(1, proposing("likely"))
    cleaned, reviewed, dropped = (bench.decided(arm, doubted, ["right"]) for arm in bench.MENDED)
    assert (cleaned["action"], cleaned["after"]["label"]) == ("fix", "likely")
    assert (reviewed["action"], reviewed["after"]["label"]) == ("fix", "right")
    assert dropped["action"] == "drop"
    assert bench.decided("reviewed", doubted, ["wrong"])["action"] == "keep", "a doubt without a reason changes nothing"


@pytest.mark.parametrize("proposal", [None, {"action": "drop", "after": None}, proposing("wrong")])
def test_what_proposes_no_other_label_stays_as_it_was_decided(bench: ModuleType, proposal: JsonObject | None):
    assert all(bench.decided(arm, decision(1, proposal), ["right"]) == decision(1, proposal) for arm in bench.MENDED)


def test_the_page_shows_the_result_that_is_kept(bench: ModuleType):
    page, found = bench.PAGE.read_text(encoding="utf-8"), bench.read_json(bench.RESULT)
    assert page == bench.with_tables(page, found), "bring it up to date with: python bench/clean_data.py --page"
    for one in found["draws"]["0"]["classical"]["arms"].values():
        assert f"{100 * one['accuracy']:.1f} %" in page


def test_the_result_says_how_far_cleaning_got(bench: ModuleType):
    for draw in bench.read_json(bench.RESULT)["draws"].values():
        arms, cleaning = draw["classical"]["arms"], draw["cleaning"]
        missed, false = cleaning["wrong"] - cleaning["found"], cleaning["proposed"] - cleaning["found"]
        assert cleaning["precision"] == cleaning["found"] / cleaning["proposed"]
        assert arms["cleaned"]["wrong_labels"] == cleaning["wrong"] - cleaning["mended"] + false
        assert arms["reviewed"]["wrong_labels"] == arms["dropped"]["wrong_labels"] == missed
        assert arms["dirty"]["wrong_labels"] == cleaning["wrong"] == 1000 and arms["oracle"]["wrong_labels"] == 0
