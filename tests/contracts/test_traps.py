"""The table of traps names tests that exist, and leaves no trap without a test or a word why."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = [line for line in (ROOT / "docs" / "traps.md").read_text().splitlines() if re.match(r"\| \d+\. ", line)]


def test_every_trap_has_its_line():
    assert [int(line[2:].partition(".")[0]) for line in LINES] == list(range(1, 34))


def test_every_test_of_a_trap_exists_and_what_has_none_is_not_built():
    for line in LINES:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        assert named or "ot built yet" in line, line
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"
