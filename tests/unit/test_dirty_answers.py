"""The planted faults of answers are found, and little else is: contradictions and spellings of labels."""

import json
from pathlib import Path

import pytest

from luthier.config.settings import DataSettings
from luthier.core import parts
from luthier.core.types import Finding, JsonObject, Row
from luthier.data.checking import context_of
from luthier.data.examine import examine
from luthier.data.read import read

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not (DATA / "dirty").is_dir(), reason="needs ../shared/data")
SNIPS = DataSettings(input="text", output=("intent", "slots"))


def rows_of(path: Path, settings: DataSettings | None = None) -> list[Row]:
    return [row for row in read(str(path), settings or DataSettings(), lambda _: None) if isinstance(row, Row)]


def find(check: str, rows: list[Row]) -> list[Finding]:
    made = parts.load("luthier.data.checks", check, "Check")(context_of(rows))
    return examine({check: made}, rows)[check]


def planted(file: str) -> list[JsonObject]:
    return json.loads((DATA / "dirty" / "MANIFEST.json").read_text(encoding="utf-8"))["files"][file]["issues"]


def lines_of(finding: Finding, rows: list[Row]) -> frozenset[int]:
    line = {row.id: row.line for row in rows}
    return frozenset(line[one] for one in finding.rows)


@pytest.mark.parametrize("file", ["contradictory_labels.jsonl", "everything.jsonl"])
def test_planted_contradictions_are_found_and_little_else(file: str) -> None:
    wanted = {frozenset(one["lines"]) for one in planted(file) if one["kind"] == "contradictory_label"}  # type: ignore[arg-type]
    rows = rows_of(DATA / "dirty" / file)
    found = {lines_of(one, rows) for one in find("contradictions", rows) if one.severity != "info"}
    assert len(found & wanted) >= 0.95 * len(wanted) and len(found & wanted) >= 0.9 * len(found)


@pytest.mark.parametrize("file", ["label_spelling.jsonl", "everything.jsonl"])
def test_planted_spellings_of_labels_are_found_with_the_right_one(file: str) -> None:
    wanted = {one["line"]: one["right_label"] for one in planted(file) if "right_label" in one and "line" in one}
    rows = rows_of(DATA / "dirty" / file)
    line = {row.id: row.line for row in rows}
    # White space around a label is mended by the check of characters, all else is proposed here.
    found = {line[row] for one in find("characters", rows) if one.kind == "outer-space" for row in one.rows}
    repairs = [repair for one in find("consistency", rows) for repair in one.repairs]
    assert repairs and not any(repair.safe for repair in repairs)
    proposed = {line[repair.row]: repair.content.messages[-1].content for repair in repairs if repair.content}  # type: ignore[union-attr]
    hits = (found | proposed.keys()) & wanted.keys()
    assert len(hits) >= 0.95 * len(wanted) and len(hits) >= 0.9 * len(found | proposed.keys())
    assert all(proposed[place] == wanted[place] for place in hits & proposed.keys())


@pytest.mark.parametrize("check", ["contradictions", "consistency"])
@pytest.mark.parametrize("name", ["snips", "banking77", "clinc150", "gsm8k"])
def test_clean_sets_stay_clean(check: str, name: str) -> None:
    for part in ("train", "test"):
        rows = rows_of(DATA / "tasks" / name / f"{part}.jsonl", SNIPS if name == "snips" else None)
        flagged = {row for one in find(check, rows) if one.severity != "info" for row in one.rows}
        assert len(flagged) < 0.01 * len(rows)
