"""The benches on near-duplicates: near leaks of known likeness are found, and every drawn pair of real rows was judged."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from luthier.core.types import Row
from luthier.data.read import read

ROOT = Path(__file__).parents[2]
TASKS = ROOT.parent / "shared" / "data" / "tasks"


def bench(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module(name)


def test_near_leaks_are_taken_out_and_reported_by_band_of_likeness(monkeypatch: pytest.MonkeyPatch):
    made = bench("near_duplicates", monkeypatch)
    found = made.measured(made.leaks, made.texts_of(1500, seed=7))
    assert found["recall"] >= 0.98 and found["precision"] == 1.0
    bands = {low: told.split(" of ") for low, told in found["found_by_likeness"].items()}
    assert all(int(hits) == 0 for low, (hits, _) in bands.items() if float(low) < made.THRESHOLD)
    assert all(int(hits) >= 0.99 * int(total) > 50 for low, (hits, total) in bands.items() if float(low) >= 0.85)


def test_the_page_shows_the_result_that_is_kept(monkeypatch: pytest.MonkeyPatch):
    made = bench("near_duplicates", monkeypatch)
    page, found = made.PAGE.read_text(encoding="utf-8"), json.loads(made.RESULT.read_text(encoding="utf-8"))
    assert page == made.with_tables(page, found), "bring it up to date with: python bench/near_duplicates.py --page"
    assert found["pairs"] == 10_000 and set(found["texts"]) == set(made.TEXTS)
    for finders in found["texts"].values():
        assert {"luthier", "leaks", "datasketch", "rensa"} <= {one["finder"] for one in finders}
        assert all(one["recall"] > 0.99 and one["precision"] == 1 for one in finders), "what is compared finds as much"


@pytest.mark.skipif(not TASKS.is_dir(), reason="../shared/data/tasks is not here")
@pytest.mark.parametrize("file", ["banking77/train.jsonl", "gsm8k/train.jsonl"])
def test_every_drawn_pair_was_judged(file: str, monkeypatch: pytest.MonkeyPatch):
    judged = bench("near_duplicates_judged", monkeypatch)
    rows = [row for row in read(str(TASKS / file), judged.SETS[file], lambda _: None) if isinstance(row, Row)]
    drawn = list(judged.drawn(file, rows))
    assert {pair.key for pair in drawn} == {key for key in judged.judgements() if key[0] == file}
    assert all(pair.likeness >= judged.THRESHOLD for pair in drawn)


def test_the_page_counts_what_was_judged(monkeypatch: pytest.MonkeyPatch):
    judged = bench("near_duplicates_judged", monkeypatch)
    lines = [json.loads(line) for line in judged.JUDGED.read_text(encoding="utf-8").splitlines()]
    assert {line["judgement"] for line in lines} == {"yes", "no"} and all(line["why"] for line in lines)
    page = judged.PAGE.read_text(encoding="utf-8")
    for file in judged.SETS:
        verdicts = [line["judgement"] for line in lines if line["file"] == file]
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {judged.NAMES[file.partition('/')[0]]},")]
        assert row.endswith(f"| {len(verdicts)} | {verdicts.count('yes')} | {verdicts.count('no')} |")
