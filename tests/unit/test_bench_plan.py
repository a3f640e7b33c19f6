"""The bench of the plan: the page says what was measured, and which forecasts lie too far off."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = {
    "plan_seconds": 10.0, "run_seconds": 11.0, "seconds": 11.5, "plan_bytes": 2**30, "run_bytes": 2**30, "bytes": 1.1 * 2**30,
    "left_foretold": 9.0, "left": 10.0,
}  # fmt: skip


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("plan")


def page_of(bench: ModuleType, *rounds: dict[str, float]) -> str:
    results = bench.summary([{"case": "A", "figures": FIGURES | one} for one in rounds])
    return bench.block({"processor": "X", "threads": 1, "cores": 2, "results": results})


def test_the_median_of_the_rounds_counts(bench: ModuleType):
    fine = page_of(bench, {}, {"seconds": 100.0}, {})
    assert "All are met" in fine and "medians of 3 rounds" in fine and "| A | 11.5 | 1.15 | 1.04 | 1.11 |" in fine


def test_what_lies_too_far_off_is_named(bench: ModuleType):
    slow = page_of(bench, {"seconds": 12.5})
    assert "**Missed**: A: the plan's time 1.25." in slow
    assert "A: the plan's memory 0.80; A: the run's memory 0.80." in page_of(bench, {"bytes": 0.8 * 2**30})


def test_the_page_shows_the_result_that_is_kept(bench: ModuleType):
    page = bench.PAGE.read_text(encoding="utf-8")
    kept = bench.RESULT.exists()
    shown = bench.block(json.loads(bench.RESULT.read_text(encoding="utf-8"))) if kept else bench.UNMEASURED
    assert page == bench.with_block(page, bench.BLOCK, shown), "write it anew with --page"
