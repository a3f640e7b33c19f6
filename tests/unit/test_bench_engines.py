"""The bench of engines: all find the same copies, ours reads on after a broken line, and the page is the result."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("engines")


def test_the_engines_that_are_here_find_the_same_copies(bench: ModuleType):
    keys_N = bench.keys(5_000)
    wanted = 5_000 - len(np.unique(keys_N))
    assert bench.group_luthier(keys_N) == bench.group_pyarrow(keys_N) == wanted == 50


def test_one_broken_line_costs_us_one_row(bench: ModuleType, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    bench.write(path, 40)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:20], bench._BROKEN, *lines[20:]]))
    assert bench.read_luthier(path) == 40
    with pytest.raises(ValueError):
        bench.read_pyarrow(path)


def test_the_page_shows_the_result_that_is_kept(bench: ModuleType):
    page, found = bench.PAGE.read_text(encoding="utf-8"), json.loads(bench.RESULT.read_text(encoding="utf-8"))
    assert page == bench.with_table(page, found), "bring it up to date with: python bench/engines.py --page"
    assert {entry["found"] for entry in found["entries"] if entry["task"] == "group"} == {10_000}
