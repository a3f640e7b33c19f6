"""The bench of the check: every size is kept once, the page is the result, and no stage keeps Ctrl-C waiting."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from luthier.core.types import JsonObject
from luthier.data.examine import check_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("check")


def run(rows: int, seconds: float, left_out: tuple[str, ...] = ("coverage",)) -> JsonObject:
    return {
        "rows": rows, "left_out": [*left_out], "seconds": seconds, "cpu_seconds": seconds / 2, "load_before": 0.1, "peak_mb": 300,
    }  # fmt: skip


def test_a_size_measured_again_takes_the_place_of_the_old_figures(bench: ModuleType):
    found: JsonObject = {"runs": [], "stages": None}
    for one in (run(100, 3.0), run(10, 1.0), run(10, 5.0, ()), run(100, 2.0)):
        found = bench.with_run(found, one)
    assert [(one["rows"], one["seconds"]) for one in found["runs"]] == [(10, 1.0), (100, 2.0), (10, 5.0)]
    assert "| 100 | those below | 2.0 | 0.1 | 1.0 | 10,000 | 300 MB |" in bench.by_size(found["runs"])


def test_the_page_shows_the_result_that_is_kept(bench: ModuleType):
    page, found = bench.PAGE.read_text(encoding="utf-8"), bench.kept()
    assert page == bench.with_tables(page, found), "bring it up to date with: python bench/check.py --page"
    assert {one["rows"] for one in found["runs"]} >= {10_000, 100_000, 1_000_000}


def test_the_command_is_measured_from_outside(bench: ModuleType, tmp_path: Path):
    bench.write(tmp_path / "rows.jsonl", 300)
    # A process counts the memory of the one that began it as its own, so a small one begins it.
    code = (
        "import json, pathlib, sys, check; print(json.dumps(check.as_a_user(pathlib.Path(sys.argv[1]), check.SAMPLED)))"
    )
    told = json.loads(
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "rows.jsonl")], check=True, capture_output=True,
            cwd=bench.ROOT / "bench",
        ).stdout
    )  # fmt: skip
    assert told["cpu_seconds"] > 0 and 50 < told["peak_mb"] < 1000 and told["findings"] > 0


def test_every_stage_is_timed_and_listens(bench: ModuleType, tmp_path: Path):
    bench.write(tmp_path / "rows.jsonl", 2000)
    told = bench.stages(tmp_path / "rows.jsonl", ("label_errors",))
    assert [one["stage"] for one in told] == [*bench.BEFORE, *check_names(("label_errors",))]
    assert all(one["deaf_seconds"] < 1 for one in told)
