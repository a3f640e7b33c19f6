"""The benches of compiled functions: the page is the result that is kept."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def kept(name: str, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The result of a bench that is kept, after its table on the page was held to it."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    bench = importlib.import_module(name)
    page = (ROOT / "docs" / "decisions" / "0010-compiled-functions.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert page == bench.with_table(page, found), f"bring it up to date: python bench/{name}.py --json ... --page ..."
    return found


def test_the_page_shows_what_answers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    found = kept("native", monkeypatch)
    assert [entry["rows"] for entry in found["entries"]] == [1, 16, 64]
    for entry in found["entries"]:
        assert entry["compiled"]["step"] < entry["torch"]["step"]
    assert found["apart"]["compiled"] < found["apart"]["torch"]


def test_the_page_shows_what_attention_in_training_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = kept("attention", monkeypatch)
    lengths = (24, 48, 96, 192, 384, 768)
    assert {entry["what"] for entry in found["results"]} == {"tree", *(f"rows of {length}" for length in lengths)}
    for entry in found["results"]:
        assert entry["compiled_ms"] < min(entry["products_ms"], entry.get("flash_ms", entry["products_ms"]))
