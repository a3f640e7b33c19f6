"""The ledger: one fate a row, sums that match."""

import time
from pathlib import Path

import pytest

from luthier.core.errors import ProofFailed
from luthier.data.ledger import COLUMNS, Ledger, read_ledger


def full() -> Ledger:
    ledger = Ledger()
    ledger.add("a", "x.jsonl", 1, "train", cluster="c1", tokens=12, trained_tokens=5)
    ledger.add("b", "x.jsonl", 2, "validation")
    ledger.add("c", "x.jsonl", 3, "test")
    ledger.add("d", "x.jsonl", 4, "dropped", rule="invalid-json")
    ledger.add("e", "x.jsonl", 5, "dropped", rule="duplicate")
    ledger.add("f", "x.jsonl", 6, "dropped", rule="duplicate")
    ledger.add("g", "x.jsonl", 7, "truncated", part="train", tokens=100, trained_tokens=3, lost_tokens=20)
    return ledger


def test_the_summary_counts_every_row_once() -> None:
    summary = full().summary()
    assert summary == {
        "read": 7,
        "train": 1,
        "validation": 1,
        "test": 1,
        "dropped": {"duplicate": 2, "invalid-json": 1},
        "truncated": 1,
    }


def test_it_is_written_with_exactly_its_columns(tmp_path: Path) -> None:
    full().write(tmp_path / "ledger.parquet")
    table = read_ledger(tmp_path / "ledger.parquet")
    assert tuple(table.column_names) == COLUMNS
    rows = table.to_pylist()
    assert rows[0] == dict(zip(COLUMNS, ("a", "x.jsonl", 1, "train", None, "train", "c1", 12, 5, 0)))
    assert rows[6] == dict(zip(COLUMNS, ("g", "x.jsonl", 7, "truncated", None, "train", None, 100, 3, 20)))
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.parquet"]


@pytest.mark.parametrize(
    ("num_read", "words"), [(8, "1 rows have no fate"), (5, "2 rows were entered that were never read")]
)
def test_sums_that_do_not_match_are_named(num_read: int, words: str) -> None:
    ledger = full()
    ledger.check(7)
    with pytest.raises(ProofFailed, match=words):
        ledger.check(num_read)


def test_a_row_has_one_fate() -> None:
    ledger = full()
    with pytest.raises(ProofFailed, match=r"row a \(x\.jsonl:1\) is entered in the ledger twice"):
        ledger.add("a", "x.jsonl", 1, "test")
    ledger.check(7)


@pytest.mark.parametrize(
    "entry",
    [
        {"fate": "dropped"},
        {"fate": "train", "part": "test"},
        {"fate": "truncated", "part": "train"},
        {"fate": "truncated", "lost_tokens": 3},
        {"fate": "lost"},
    ],
)
def test_entries_that_contradict_themselves_are_refused(entry: dict) -> None:
    ledger = Ledger()
    with pytest.raises(ProofFailed):
        ledger.add("a", "x", 1, **entry)
    ledger.check(0)


def test_many_rows_are_cheap(tmp_path: Path) -> None:
    ledger = Ledger()
    start = time.process_time()
    for number in range(100_000):
        ledger.add(f"{number:016x}", "x.jsonl", number, "train", cluster=f"{number // 3:x}", tokens=9)
    ledger.write(tmp_path / "ledger.parquet")
    assert time.process_time() - start < 5
    assert read_ledger(tmp_path / "ledger.parquet").num_rows == 100_000
