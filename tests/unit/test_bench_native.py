"""The benches of compiled functions: the page is the result that is kept."""

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


def test_the_page_shows_what_attention_in_training_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    bench = importlib.import_module("attention")
    page = (ROOT / "docs" / "decisions" / "0010-compiled-functions.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "bench" / "results" / "attention.json").read_text(encoding="utf-8"))
    assert page == bench.with_table(page, found), (
        "bring it up to date with: python bench/attention.py --json ... --page ..."
    )
    assert {entry["what"] for entry in found["results"]} == {
        "tree",
        *(f"rows of {n}" for n in (24, 48, 96, 192, 384, 768)),
    }
    for entry in found["results"]:
        assert entry["compiled_ms"] < min(entry["products_ms"], entry.get("flash_ms", entry["products_ms"]))
