"""The bench of chats beside a job: what its page says is what was measured, or that nothing was."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("chat_beside_job")


def result(beside: float) -> dict[str, object]:
    return {
        "machine": {"processor": "X", "cores": 2}, "settings": {"model": "starter", "clients": "4", "tokens": "32"},
        "threads": {"engine": 1, "trainer": 1}, "job_steps": 1234, "alone": 300.0, "beside": beside, "ratio": beside / 300,
    }  # fmt: skip


def test_the_page_says_whether_a_third_is_kept(bench: ModuleType):
    assert "keep 34 % of their speed (aim: at least a third; met)" in bench.block(result(101.0))
    missed = bench.block(result(99.0))
    assert "keep 33 % of their speed (aim: at least a third; **missed**)" in missed
    assert "which took 1,234 steps" in missed and "| beside a job that trains | 99 |" in missed


def test_the_page_shows_the_result_that_is_kept(bench: ModuleType):
    page = bench.PAGE.read_text(encoding="utf-8")
    if not bench.RESULT.exists():
        assert page == bench.with_block(page, bench.BLOCK, bench.UNMEASURED)
    else:
        found = json.loads(bench.RESULT.read_text(encoding="utf-8"))
        assert page == bench.with_block(page, bench.BLOCK, bench.block(found)), "write it anew with --page"
