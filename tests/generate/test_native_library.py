"""The compiled functions are made once a machine, and left out where they are missing or wrong."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from luthier.core.places import CACHE_VARIABLE
from luthier.kernels import native, native_build

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


def test_a_process_that_computes_no_gradients_may_ask_first() -> None:
    native._found.cache_clear()
    with torch.inference_mode():
        assert native.library() is not None, native.why_not()


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


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names what processors of another kind lack")
def test_a_processor_that_multiplies_no_pairs_attends_too(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_build, "_FLAGS", [*native_build._FLAGS, "-mno-avx512bf16", "-mno-avx512f"])
    assert native.library() is not None, native.why_not()  # made, and held to torch


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


FAULTS = {
    "keys behind a token's own are seen": ("native.cpp", "std::fill_n(&score[p * m]", "if (false) std::fill_n(&score[p * m]"),
    "a beginning counts twice": (
        "native.cpp",
        "own = {most, own.total * ours + other",
        "own = {most, own.total * ours + 2.0f * other",
    ),
    "the greatest so far is forgotten": ("native.cpp", "store(&greatest[at], most);", "store(&greatest[at], before);"),
    "a row reads its neighbour's line": ("native.cpp", "place = (line[row] * heads", "place = (row * heads"),
    "the rest of a line is left out": ("native.cpp", "rest[i - whole] = ", "if (false) rest[i - whole] = "),
    "a target's gradient is that of another word": ("native.cpp", "(exponential(of_target) - 1.0f)", "exponential(of_target)"),
    "tokens see those behind them": ("native_tree.cpp", "std::fill(score, score + from, what);", ""),
    "tokens see those before the window": ("native_tree.cpp", "std::fill(score + to, score + m, what);", ""),
    "what stands before is not seen": ("native_tree.cpp", "for (int64_t i = first_span(piece", "for (int64_t i = first_span(piece.segment + 1) - first_span(piece"),
    "a piece of a segment is not measured by the others": ("native_tree.cpp", "store(&room.less[q], less);", "store(&room.less[q], all(1.0f));"),
    "keys get the gradient of one thread": ("native_tree.cpp", "for (int64_t part = 0; part < parts; part++) total", "for (int64_t part = 0; part < 1; part++) total"),
    "scores are not held to what the result has": ("native_tree.cpp", "(load(score_grad + q) - load(&room.product[q]))", "load(score_grad + q)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_library_that_computes_something_else_is_not_used(
    fault: str, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], two_threads: None
) -> None:
    name, right, wrong = FAULTS[fault]
    for kept in native_build._SOURCES:
        source = (native_build._FOLDER / kept).read_text(encoding="utf-8")
        assert kept != name or right in source
        (tmp_path / kept).write_text(source.replace(right, wrong) if kept == name else source, encoding="utf-8")
    monkeypatch.setattr(native_build, "_FOLDER", tmp_path)
    monkeypatch.setattr(
        native_build, "_FLAGS", ["-O0" if flag == "-O3" else flag for flag in native_build._FLAGS]
    )  # made in half the time
    monkeypatch.setenv("CXX", os.environ.get("CXX") or shutil.which("g++") or "c++")
    assert native.library() is None
    (word,) = said
    assert "torch's" in word and native.why_not() in word
