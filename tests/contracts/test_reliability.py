"""The page of tortures tells the truth: every item once, and every test that it names is there."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ((?:TR|DA|SV|UM|EV)\d\d) \| ([^|]+) \| (yes|part|no)(?:: [^|]+)? \|(.*)\|$", re.MULTILINE)
ITEMS = {"TR": 20, "DA": 16, "SV": 28, "UM": 13, "EV": 9}


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str, str, str]]:
    return ROW.findall((ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"))


@cache
def source(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def test_every_item_stands_there_once(rows: list[tuple[str, str, str, str]]):
    wanted = [f"{kind}{number:02d}" for kind, most in ITEMS.items() for number in range(1, most + 1)]
    assert [name for name, *_ in rows] == wanted


def test_every_test_that_is_named_is_there(rows: list[tuple[str, str, str, str]]):
    for name, _, covered, tests in rows:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests)
        assert len(named) == tests.count("`") // 2, f"{name}: a test is written as `folder/test_file.py::test_name`"
        assert named or covered == "no", f"{name} is said to be covered, by no test"
        for file, test in named:
            assert re.search(rf"^def {test}\(", source(ROOT / "tests" / file), re.MULTILINE), (
                f"{name}: no {file}::{test}"
            )


def test_the_counts_at_the_head_are_those_of_the_tables(rows: list[tuple[str, str, str, str]]):
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    counts = {covered: sum(row[2] == covered for row in rows) for covered in ("yes", "part", "no")}
    assert f"{counts['yes']} are covered, {counts['part']} in part, {counts['no']} not" in text
