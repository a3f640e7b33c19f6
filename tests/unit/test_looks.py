"""The ledger of looks counts each look at a test once, and loses none that come at the same instant."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier.core.errors import RunFolderError
from luthier.core.looks import LOOKS, look


def test_each_look_counts_once_and_each_test_apart(tmp_path: Path) -> None:
    assert look(tmp_path, "aa", "first", {"run": "one"}) == 1
    assert look(tmp_path, "aa", "second", {}) == 2
    assert look(tmp_path, "aa", "first", {}) == 2, "a run that goes on looks no second time"
    assert look(tmp_path, "bb", "first", {}) == 1
    assert len((tmp_path / LOOKS).read_text().splitlines()) == 3


def test_looks_at_the_same_instant_are_all_entered(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: look(tmp_path, "aa", str(number), {"note": "x" * 500}), range(100)))
    assert look(tmp_path, "aa", "last", {}) == 101


def test_a_torn_or_strange_line_hides_no_other(tmp_path: Path) -> None:
    look(tmp_path, "aa", "first", {})
    with (tmp_path / LOOKS).open("ab") as stream:
        stream.write(b'{"test": "aa", "loo\n[1]\n\xff\n')
    assert look(tmp_path, "aa", "second", {}) == 2


def test_a_ledger_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / LOOKS).mkdir()
    with pytest.raises(RunFolderError, match=r"looks\.jsonl"):
        look(tmp_path, "aa", "first", {})
