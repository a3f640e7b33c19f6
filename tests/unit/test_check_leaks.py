"""Leaks: held-out questions by the way they leaked, benchmarks, and answers that stand in their prompt."""

import json
import random
from pathlib import Path

import pytest

from luthier.config.settings import CheckSettings, SplitSettings
from luthier.core.errors import DataError
from luthier.core.types import Conversation, Finding, JsonObject, Message, Row
from luthier.data.checking import context_of
from luthier.data.checks.leaks import Check
from luthier.data.split import Assignment, row_key, split

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
LONG = "please tell me why the payment that I made with my new card last {} was taken twice and when I get it back"


def row(line: int, question: str, answer: str = "fine", file: str = "a.jsonl", group: str | None = None) -> Row:
    turns = (Message("user", question), Message("assistant", answer))
    return Row(f"{file}-{line}", file, line, line, Conversation(turns), group)


def find(rows: list[Row], assignment: Assignment | None = None, settings: CheckSettings | None = None) -> list[Finding]:
    check = Check(context_of(rows, settings, assignment))
    seen = [finding for position, one in enumerate(rows) for finding in check.see(position, one)]
    return [*seen, *check.end()]


def dealt(train: list[Row], test: list[Row]) -> Assignment:
    keys = [*(row_key(one) for one in train), *(row_key(one, "test") for one in test)]
    return split(keys, SplitSettings(), 0, has_test=True, has_validation=False)


def unlike(count: int) -> list[Row]:
    rng = random.Random(count)
    texts = (" ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(12)) for _ in range(count))
    return [row(100 + place, text) for place, text in enumerate(texts)]


def records(path: Path) -> list[JsonObject]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@needs_data
def test_planted_leaks_are_found_and_told_apart() -> None:
    train, test = (
        [
            row(line, str(one["text"]), str(one["label"]), file)
            for line, one in enumerate(records(SHARED / "dirty" / file), 1)
        ]
        for file in ("leak_train.jsonl", "leak_test.jsonl")
    )
    issues = json.loads((SHARED / "dirty" / "MANIFEST.json").read_text(encoding="utf-8"))["files"]["leak_test.jsonl"][
        "issues"
    ]
    findings = find([*train, *test], dealt(train, test))
    assert {finding.rows for finding in findings} == {
        (f"leak_test.jsonl-{one['line']}", f"leak_train.jsonl-{one['train_line']}") for one in issues
    }
    exact = {f"leak_test.jsonl-{one['line']}" for one in issues if one["kind"] == "leak_exact"}
    assert {finding.rows[0] for finding in findings if finding.kind == "exact"} == exact
    assert {finding.kind for finding in findings} == {"exact", "normalized"}


def test_near_questions_and_shared_groups_are_named_as_what_they_are() -> None:
    train = [row(1, LONG.format("May")), row(2, "something quite different from that", group="g"), *unlike(40)]
    test = [
        row(1, LONG.format("June"), file="t.jsonl"),
        row(2, "the other thing a customer wrote to us", file="t.jsonl", group="g"),
    ]
    near, group = find([*train, *test], dealt(train, test))
    assert (near.kind, near.rows) == ("near", ("t.jsonl-1", "a.jsonl-1"))
    assert (group.kind, group.rows) == ("group", ("t.jsonl-2", "a.jsonl-2"))
    assert "test row t.jsonl:1 is asked nearly word for word in a.jsonl:1" in near.detail
    assert near.severity == group.severity == "warning"


def test_a_row_between_two_parts_is_a_hint() -> None:
    rows = [
        row(
            line,
            f"w{line * 7} x{line * 11} y{line * 13} z{line * 17} question",
            "a",
            group=f"g{line}" if line < 10 else None,
        )
        for line in range(1, 60)
    ]
    parts = split([row_key(one) for one in rows], SplitSettings(), 0, has_test=False, has_validation=False).part
    trained = next(one for one, part in zip(rows, parts) if part == "train" and one.group)
    tested = next(one for one, part in zip(rows, parts) if part == "test" and not one.group)
    rows.append(Row("bridge", "a.jsonl", 99, 99, tested.content, trained.group))
    (finding,) = find(
        rows, split([row_key(one) for one in rows], SplitSettings(), 0, has_test=False, has_validation=False)
    )
    assert finding.kind == "bridge" and finding.severity == "info" and "a.jsonl:99" in finding.detail


REPLY = "Your refund is on its way and takes up to three working days to arrive."


def test_an_answer_that_slipped_into_its_prompt_is_found() -> None:
    rows = [row(line, f"where is my refund number {line}", f"{REPLY} Case {line}.") for line in range(1, 60)]
    rows += [row(90, f"where is it? Agent notes: {REPLY.upper()} thank you", REPLY)]
    (finding,) = find(rows)
    assert finding.kind == "answer-in-prompt" and finding.rows == ("a.jsonl-90",)
    assert "a.jsonl:90" in finding.detail and finding.severity == "warning"


def test_where_answers_are_taken_from_the_prompt_that_is_the_task() -> None:
    passages = [f"On day {line} the committee of the town met in the old hall" for line in range(1, 60)]
    rows = [row(line, f"Find where they met in: {text}", text[-42:]) for line, text in enumerate(passages, 1)]
    assert find(rows) == []


def test_an_earlier_answer_and_a_short_one_are_no_leak() -> None:
    turns = (
        Message("user", "hi"),
        Message("assistant", REPLY),
        Message("user", "again please"),
        Message("assistant", REPLY),
    )
    rows = [*unlike(30), Row("r", "a.jsonl", 1, 1, Conversation(turns)), row(2, "is it yes or no", "yes or no")]
    assert find(rows) == []


def test_benchmark_questions_are_found_the_same_and_nearly(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    asked = [LONG.format("May"), *(one.content.messages[0].content for one in unlike(25))]  # type: ignore[union-attr]
    path.write_text("".join(json.dumps({"question": text, "answer": "42"}) + "\n" for text in asked), encoding="utf-8")
    rows = [*unlike(60), row(1, LONG.format("JUNE")), row(2, LONG.format("May").upper())]
    (finding,) = find(rows, settings=CheckSettings(benchmarks=(str(path),)))
    assert finding.kind == "benchmark" and finding.rows == ("a.jsonl-1", "a.jsonl-2")
    assert "1 of them the same and 1 nearly the same" in finding.detail and "a.jsonl:1 (exam.jsonl:1)" in finding.detail
    assert all(repair.action == "drop" and not repair.safe for repair in finding.repairs)


def test_a_benchmark_is_seen_through_an_instruction_that_all_rows_have(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_text(json.dumps({"question": LONG.format("May"), "answer": "42"}) + "\n", encoding="utf-8")
    form = "Read the message of the customer with care, then say in one line what should be done about it now:"
    rows = [row(one.line, f"{form} {one.content.messages[0].content}") for one in unlike(60)]  # type: ignore[union-attr]
    rows.append(row(1, f"{form} {LONG.format('May')}"))
    (finding,) = find(rows, settings=CheckSettings(benchmarks=(str(path),)))
    assert finding.rows == ("a.jsonl-1",)


def test_a_benchmark_that_is_no_data_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"check\.benchmarks: .*exam\.jsonl"):
        find(unlike(3), settings=CheckSettings(benchmarks=(str(path),)))


@needs_data
@pytest.mark.parametrize("name", ["gsm8k", "banking77"])
def test_clean_sets_give_nothing_away(name: str) -> None:
    rows = [
        row(line, str(one.get("question") or one.get("text")), str(one.get("answer") or one.get("label")))
        for line, one in enumerate(records(SHARED / "tasks" / name / "train.jsonl")[:4000], 1)
    ]
    assert sum(len(finding.rows) for finding in find(rows)) <= 0.001 * len(rows)
