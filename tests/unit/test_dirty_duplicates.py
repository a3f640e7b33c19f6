"""The copies planted in a file with most other defects are found with their originals, and no others."""

import json
from pathlib import Path

import pytest

from luthier.config.settings import DataSettings
from luthier.core.types import Row
from luthier.data.checking import context_of
from luthier.data.checks.duplicates import Check
from luthier.data.examine import examine
from luthier.data.read import read

DIRTY = Path(__file__).parents[2].parent / "shared" / "data" / "dirty"
FILE = "everything.jsonl"
KINDS = ("duplicate_exact", "duplicate_case", "duplicate_whitespace")


@pytest.mark.skipif(not DIRTY.is_dir(), reason="../shared/data/dirty is not here")
def test_copies_among_other_defects_are_found_with_their_originals() -> None:
    issues = json.loads((DIRTY / "MANIFEST.json").read_text(encoding="utf-8"))["files"][FILE]["issues"]
    wanted = {frozenset((one["line"], one["of_line"])) for one in issues if one["kind"] in KINDS}
    rows = [row for row in read(str(DIRTY / FILE), DataSettings(), lambda _: None) if isinstance(row, Row)]
    line = {row.id: row.line for row in rows}
    findings = examine({"duplicates": Check(context_of(rows))}, rows)["duplicates"]
    found = {frozenset(line[row] for row in finding.rows) for finding in findings}
    assert len(wanted) > 20
    assert len(found & wanted) >= 0.95 * len(wanted) and len(found & wanted) >= 0.9 * len(found)
