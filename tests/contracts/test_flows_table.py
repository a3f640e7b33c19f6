"""The table of flows names tests that exist, at least thirty."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_flow_of_the_table_is_covered_by_a_test_that_exists():
    page = (ROOT / "docs" / "openai-flows.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", page)
    missing = [
        f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert missing == [] and len(named) == len(set(named)) >= 30
