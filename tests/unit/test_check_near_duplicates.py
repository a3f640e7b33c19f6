"""Near-duplicates: clusters are found with and without a split, and equal or leaked rows are left to others."""

import json
import random
from pathlib import Path

import pytest

from luthier.config.settings import SplitSettings
from luthier.core.types import Conversation, Finding, Message, Row
from luthier.data.checking import context_of
from luthier.data.checks.near_duplicates import Check
from luthier.data.split import Assignment, row_key, split

TASKS = Path(__file__).parents[2].parent / "shared" / "data" / "tasks"


def row(line: int, question: str, answer: str = "fine", group: str | None = None) -> Row:
    turns = (Message("user", question), Message("assistant", answer))
    return Row(f"r{line}", "a.jsonl", line, line, Conversation(turns), group)


def find(rows: list[Row], assignment: Assignment | None = None) -> list[Finding]:
    check = Check(context_of(rows, assignment=assignment))
    seen = [finding for position, one in enumerate(rows) for finding in check.see(position, one)]
    return [*seen, *check.end()]


def dealt(rows: list[Row], tested: int = 0) -> Assignment:
    keys = [row_key(one, "test" if place < tested else "data") for place, one in enumerate(rows)]
    return split(keys, SplitSettings(), 0, has_test=tested > 0, has_validation=False)


def unlike(count: int, first: int = 100) -> list[Row]:
    rng = random.Random(count)
    texts = (" ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(12)) for _ in range(count))
    return [row(first + place, text) for place, text in enumerate(texts)]


LONG = "please tell me why the payment that I made with my new card last {} was taken twice and when I get it back"


@pytest.mark.parametrize("with_split", [True, False])
def test_a_cluster_is_one_finding_with_its_spread_and_its_difference(with_split: bool) -> None:
    rows = [row(1, LONG.format("May")), *unlike(40), row(2, LONG.format("June")), row(3, LONG.format("May"))]
    (finding,) = find(rows, dealt(rows) if with_split else None)
    assert finding.rows == ("r1", "r2", "r3")
    assert finding.kind == "same-answer" and finding.severity == "info"
    assert "3 rows ask nearly the same (likeness 0.8" in finding.detail
    assert "'may' against 'june'" in finding.detail and "a.jsonl:1" in finding.detail
    assert [(one.row, one.action, one.safe) for one in finding.repairs] == [
        ("r2", "drop", False),
        ("r3", "drop", False),
    ]


def test_other_answers_are_told_apart_and_nothing_is_proposed() -> None:
    rows = [row(1, LONG.format("May"), "yes"), row(2, LONG.format("June"), "no"), *unlike(40)]
    (finding,) = find(rows)
    assert finding.kind == "other-answer" and finding.repairs == ()


def test_equal_questions_alone_are_not_near_duplicates() -> None:
    rows = [row(1, "Where is it?"), row(2, "where is it"), *unlike(40)]
    assert find(rows) == [] == find(rows, dealt(rows))


def test_a_shared_group_alone_makes_no_near_duplicate() -> None:
    rows = [
        *unlike(40),
        row(1, "first question of a customer", group="g"),
        row(2, "quite unlike the one before", group="g"),
    ]
    assert find(rows, dealt(rows)) == []


def test_a_training_row_like_a_test_row_is_left_to_the_leaks() -> None:
    rows = [row(1, LONG.format("May")), *unlike(40), row(2, LONG.format("June"))]
    assert len(find(rows)) == 1
    assert find(rows, dealt(rows, tested=1)) == []


def test_a_crowd_and_a_large_share_are_warnings() -> None:
    many = [row(place, LONG.format(f"month{place % 7} {'x' * place}")) for place in range(1, 8)]
    assert {one.severity for one in find([*many, *unlike(40)])} == {"warning"}
    assert {one.severity for one in find([*many[:2], *unlike(40)])} == {"info"}


def test_the_split_threshold_is_kept() -> None:
    rows = [row(1, LONG.format("May")), *unlike(40), row(2, LONG.format("June"))]
    keys = [row_key(one) for one in rows]
    exact = split(keys, SplitSettings(near_duplicate=1.0), 0, has_test=False, has_validation=False)
    assert find(rows, exact) == []


def test_a_long_common_instruction_makes_no_near_duplicates() -> None:
    form = "You are given the message of a customer. Say which of these intents it has, and nothing else, please: "
    rows = [row(one.line, form + str(one.content.messages[0].content)[:30]) for one in unlike(40)]  # type: ignore[union-attr]
    assert find(rows) == []


@pytest.mark.skipif(not TASKS.is_dir(), reason="needs ../shared/data")
def test_a_split_saves_work_and_loses_no_near_duplicate() -> None:
    lines = (TASKS / "banking77" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:4000]
    records = [json.loads(line) for line in lines]
    rows = [row(place, record["text"], record["label"]) for place, record in enumerate(records, 1)]
    with_split, without = find(rows, dealt(rows)), find(rows)
    touched = [{one for finding in findings for one in finding.rows} for findings in (with_split, without)]
    assert len(touched[1]) > 40
    assert len(touched[0] & touched[1]) >= 0.98 * len(touched[1])
