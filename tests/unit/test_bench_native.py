"""The bench of compiled functions: the page is the result that is kept."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_result_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    bench = importlib.import_module("native")
    page = (ROOT / "docs" / "decisions" / "0010-compiled-functions.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "bench" / "results" / "native.json").read_text(encoding="utf-8"))
    assert page == bench.with_table(page, found), (
        "bring it up to date with: python bench/native.py --json ... --page ..."
    )
    assert [entry["rows"] for entry in found["entries"]] == [1, 16, 64]
    for entry in found["entries"]:
        assert entry["compiled"]["step"] < entry["torch"]["step"]
    assert found["apart"]["compiled"] < found["apart"]["torch"]
