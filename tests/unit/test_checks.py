"""The data checks find what was planted, name it by file and line, and find nothing else."""

import dataclasses
import json
import time
from pathlib import Path

import pytest

from luthier.config.settings import SplitSettings
from luthier.core.types import Conversation, Finding, JsonObject, Message, Row, Text
from luthier.data.checking import context_of
from luthier.data.examine import check_names, examine, make_checks
from luthier.data.split import Assignment, row_key, split

DIRTY = Path(__file__).parents[2].parent / "shared" / "data" / "dirty"
needs_data = pytest.mark.skipif(not DIRTY.is_dir(), reason="needs ../shared/data")


def row(line: int, question: str, answer: str, file: str = "a.jsonl", system: str | None = None) -> Row:
    turns = (Message("user", question), Message("assistant", answer))
    if system is not None:
        turns = (Message("system", system), *turns)
    return Row(f"{file}-{line}", file, line, line, Conversation(turns))


def find(check: str, rows: list[Row], assignment: Assignment | None = None) -> list[Finding]:
    return examine(make_checks([check], context_of(rows, assignment=assignment)), rows)[check]


def planted(file: str) -> list[JsonObject]:
    return json.loads((DIRTY / "MANIFEST.json").read_text(encoding="utf-8"))["files"][file]["issues"]


def dirty_rows(file: str) -> list[Row]:
    records = [json.loads(line) for line in (DIRTY / file).read_text(encoding="utf-8").splitlines()]
    return [
        row(
            line,
            record.get("text") or record["input"],
            record.get("label") or record["output"],
            file,
            record.get("instruction"),
        )
        for line, record in enumerate(records, 1)
    ]


def lines_of(finding: Finding) -> frozenset[int]:
    return frozenset(int(one.rpartition("-")[2]) for one in finding.rows)


def test_every_check_is_empty_on_clean_rows() -> None:
    rows = [row(line, f"question number {line}", f"answer {line % 3}") for line in range(1, 40)]
    assert {"duplicates", "contradictions", "leaks"} <= set(check_names())
    for check in ("duplicates", "contradictions", "leaks"):
        assert find(check, rows) == [] == find(check, [])


@needs_data
def test_planted_duplicates_are_found_with_their_originals() -> None:
    issues = planted("duplicates.jsonl")
    families: dict[object, set[object]] = {}
    for issue in issues:
        families.setdefault(issue["of_line"], {issue["of_line"]}).add(issue["line"])
    findings = find("duplicates", dirty_rows("duplicates.jsonl"))
    assert {lines_of(one) for one in findings} == {frozenset(family) for family in families.values()}
    exact = {issue["line"] for issue in issues if issue["kind"] == "duplicate_exact"}
    assert {line for one in findings if one.kind == "exact" for line in lines_of(one)} & exact
    assert all(one.kind == "normalized" or lines_of(one) & exact for one in findings)


@needs_data
def test_planted_contradictions_are_found() -> None:
    issues = planted("contradictory_labels.jsonl")
    findings = find("contradictions", dirty_rows("contradictory_labels.jsonl"))
    assert {lines_of(one) for one in findings} == {frozenset(issue["lines"]) for issue in issues}  # type: ignore[arg-type]
    assert sum(one.severity == "warning" for one in findings) >= 0.8 * len(findings)


@needs_data
def test_planted_leaks_are_found() -> None:
    train, test = dirty_rows("leak_train.jsonl"), dirty_rows("leak_test.jsonl")
    keys = [*(row_key(one) for one in train), *(row_key(one, "test") for one in test)]
    dealt = split(keys, SplitSettings(), 0, has_test=True, has_validation=False)
    findings = find("leaks", [*train, *test], dealt)
    pairs = {one.rows for one in findings}
    assert pairs == {
        (f"leak_test.jsonl-{issue['line']}", f"leak_train.jsonl-{issue['train_line']}")
        for issue in planted("leak_test.jsonl")
    }
    assert all("leak_train.jsonl:" in one.detail for one in findings)


def test_a_majority_is_named_and_a_tie_is_not_decided() -> None:
    others = [row(10 + i, f"other {i}", label) for i, label in enumerate(["yes", "no", "maybe"])]
    voted = [row(1, "Is it open?", "yes"), row(2, "is it open", "Yes."), row(3, "Is it open?", "no")]
    (finding,) = find("contradictions", [*voted, *others])
    assert finding.kind == "label" and "'yes', which 2 of 3 rows say" in finding.fix
    assert "a.jsonl:1" in finding.detail and "'no' (a.jsonl:3)" in finding.detail
    (tie,) = find("contradictions", [*voted[1:], *others])
    assert "none has a majority" in tie.fix


def test_free_text_answers_are_only_a_hint_and_another_system_prompt_is_another_question() -> None:
    jokes = [row(1, "Tell a joke", "A horse walks into a bar."), row(2, "Tell a joke", "Knock, knock.")]
    (finding,) = find("contradictions", jokes)
    assert finding.kind == "text" and finding.severity == "info" and finding.confidence < 0.5
    assert find("contradictions", [row(1, "hi", "hello"), row(2, "hi", "ahoy", system="You are a pirate.")]) == []


def test_documents_have_duplicates_but_no_contradictions() -> None:
    texts = ["a page", "A page"]
    pages = [Row(str(line), "b.txt", line, line, Text(text)) for line, text in enumerate(texts, 1)]
    (finding,) = find("duplicates", pages)
    assert finding.kind == "normalized" and "b.txt:1, b.txt:2" in finding.detail
    assert find("contradictions", pages) == []


def test_many_copies_are_counted_but_not_all_named() -> None:
    (finding,) = find("duplicates", [row(line, "same", "same") for line in range(1, 101)])
    assert len(finding.rows) == 100 and "and 96 more" in finding.detail


def test_exact_copies_but_the_first_may_be_dropped_unasked_and_others_not() -> None:
    rows = [row(1, "Same?", "a"), row(2, "same", "a"), row(3, "Same?", "a"), row(4, "other", "b"), row(5, "other", "b")]
    mixed, exact = find("duplicates", rows)
    assert (mixed.kind, exact.kind) == ("normalized", "exact")
    assert [(one.row, one.action, one.safe) for one in mixed.repairs] == [
        ("a.jsonl-2", "drop", False), ("a.jsonl-3", "drop", True),
    ]  # fmt: skip
    assert [(one.row, one.safe) for one in exact.repairs] == [("a.jsonl-5", True)]


def test_rows_of_another_source_are_no_copies() -> None:
    rows = [row(1, "same", "a"), row(1, "same", "a", "test.jsonl")]
    context = dataclasses.replace(context_of(rows), num_of={"data": 1, "test": 1})
    assert examine(make_checks(["duplicates"], context), rows)["duplicates"] == []


def test_a_bridging_row_is_reported() -> None:
    rows = [row(line, f"w{line * 7} x{line * 11} y{line * 13} z{line * 17} question", "a") for line in range(1, 60)]
    rows = [
        Row(one.id, one.file, one.line, one.record, one.content, f"g{one.line}" if one.line < 10 else None)
        for one in rows
    ]
    dealt = split([row_key(one) for one in rows], SplitSettings(), 0, has_test=False, has_validation=False)
    trained = next(one for one, part in zip(rows, dealt.part) if part == "train" and one.group)
    tested = next(one for one, part in zip(rows, dealt.part) if part == "test" and not one.group)
    rows.append(Row("bridge", "a.jsonl", 99, 99, tested.content, trained.group))
    dealt = split([row_key(one) for one in rows], SplitSettings(), 0, has_test=False, has_validation=False)
    (finding,) = find("leaks", rows, dealt)
    assert finding.kind == "bridge" and "bridge" in finding.rows and "a.jsonl:99" in finding.detail


@pytest.mark.parametrize("check", ["duplicates", "contradictions"])
def test_twenty_thousand_rows_take_seconds(check: str) -> None:
    rows = [
        row(line, f"the question number {line} of a long list about cards", f"label {line % 9}")
        for line in range(20_000)
    ]
    started = time.monotonic()
    find(check, rows)
    assert time.monotonic() - started < 10
