"""The compiled functions are made once a machine, and left out where they are missing or wrong."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.core.places import CACHE_VARIABLE
from luthier.kernels import native

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"needs compiled functions: {native.why_not()}")


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine that has made no library yet; its cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    native._found.cache_clear()
    yield tmp_path / "native"
    native._found.cache_clear()


def test_a_library_is_made_once_and_found_again(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library() is native.library() is not None
    (made,) = fresh.iterdir()
    assert made.stat().st_mode & 0o777 == 0o700
    native._found.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *_, **__: 1 / 0)
        assert native.library() is not None
    made.chmod(0o777)  # anybody could have written it
    native._found.cache_clear()
    assert native.library() is not None
    assert [one.stat().st_mode & 0o777 for one in fresh.iterdir()] == [0o700]


def test_a_library_is_made_where_nothing_can_be_kept(fresh: Path) -> None:
    fresh.write_text("a file where the folder should be", encoding="utf-8")
    assert native.library() is not None


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the log, whatever else in this process did to logging."""
    words: list[str] = []
    monkeypatch.setattr(native.log, "warning", lambda text, *given: words.append(text % given))
    return words


def test_without_a_compiler_there_is_none_and_nothing_is_said(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert native.library() is None and "no-such-compiler" in native.why_not()
    assert not fresh.exists() and said == []


def test_a_compiler_that_fails_is_named_and_nothing_is_left(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setenv("CXX", "false")
    assert native.library() is None
    (word,) = said
    assert "false could not make them" in word and list(fresh.iterdir()) == []


FAULTS = {
    "keys behind a token's own are seen": ("std::fill_n(&score[p * m]", "if (false) std::fill_n(&score[p * m]"),
    "a beginning counts twice": (
        "own = {most, own.total * ours + other",
        "own = {most, own.total * ours + 2.0f * other",
    ),
    "the greatest so far is forgotten": ("store(&greatest[at], most);", "store(&greatest[at], before);"),
    "a row reads its neighbour's line": ("place = (line[row] * heads", "place = (row * heads"),
    "the rest of a line is left out": ("rest[i - whole] = ", "if (false) rest[i - whole] = "),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_library_that_computes_something_else_is_not_used(
    fault: str, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    right, wrong = FAULTS[fault]
    source = native._SOURCE.read_text(encoding="utf-8")
    assert right in source
    spoiled = tmp_path / "native.cpp"
    spoiled.write_text(source.replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr(native, "_SOURCE", spoiled)
    monkeypatch.setenv("CXX", os.environ.get("CXX") or shutil.which("g++") or "c++")
    assert native.library() is None
    (word,) = said
    assert "torch's" in word and native.why_not() in word
