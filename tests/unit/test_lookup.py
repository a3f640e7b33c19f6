"""Stored rows by position, over several files and row groups; health and what is kept of findings."""

from pathlib import Path

import pytest

from luthier.config.settings import CheckLimits
from luthier.core.hashing import file_hash
from luthier.core.types import Conversation, Finding, Message, Repair, Row, Text
from luthier.data import findings_cache, store
from luthier.data.checking import Place
from luthier.data.cluster_map import ClusterMap, Spot
from luthier.data.findings_cache import FindingsCache, Found, Summary
from luthier.data.health import About, Diagnosis, Excerpt, worst_first
from luthier.data.lookup import Lookup
from luthier.data.store import RowWriter


def row(number: int, file: str = "a.jsonl") -> Row:
    return Row(f"{file}-{number}", file, number * 2, number, Text(f"text {number}"))


def finding(check: str, severity: str, *rows: str, confidence: float = 1.0) -> Finding:
    return Finding(check, "kind", severity, confidence, rows, "detail", "fix")  # type: ignore[arg-type]


@pytest.fixture
def lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lookup:
    monkeypatch.setattr(store, "GROUP_ROWS", 4)
    for name, count in (("a", 10), ("none", 0), ("b", 5)):
        with RowWriter(tmp_path / f"{name}.parquet") as writer:
            for number in range(1, count + 1):
                writer.write(row(number, f"{name}.jsonl"))
    return Lookup([tmp_path / f"{name}.parquet" for name in ("a", "none", "b")])


def test_rows_are_the_same_streamed_and_fetched_in_any_order(lookup: Lookup):
    rows = list(lookup)
    assert rows == [*(row(n) for n in range(1, 11)), *(row(n, "b.jsonl") for n in range(1, 6))]
    assert len(lookup) == 15 and lookup.counts == [10, 0, 5]
    assert [lookup.row_at(position) for position in (14, 0, 9, 10, 3, 4)] == [rows[i] for i in (14, 0, 9, 10, 3, 4)]
    with pytest.raises(IndexError):
        lookup.row_at(15)


def test_places_need_no_rows(lookup: Lookup):
    assert list(lookup.places()) == [Place(row.id, row.file, row.line) for row in lookup]
    assert str(lookup.places()[10]) == "b.jsonl:2"


def test_only_what_is_worse_than_a_hint_touches_health():
    checks = {name: About(dimension, "effect", "blind") for name, dimension in (("a", "valid"), ("b", "unique"))}  # type: ignore[arg-type]
    found = (
        finding("a", "error", "1", "2"), finding("a", "warning", "2", "3"), finding("a", "info", "4"), finding("b", "info", "1"),
    )  # fmt: skip
    diagnosis = Diagnosis(10, 0, found, checks, {}, {}, limits=CheckLimits(valid=0.71, unique=1))
    assert diagnosis.health["valid"] == 0.7 and diagnosis.health["unique"] == 1 and diagnosis.health["fits"] is None
    assert diagnosis.crossed == ["valid"]
    assert [(kind.severity, len(kind.rows)) for kind in diagnosis.kinds] == [
        ("error", 2), ("warning", 2), ("info", 1), ("info", 1),
    ]  # fmt: skip


def test_the_worst_comes_first():
    mild, sure, doubtful = (
        finding("a", "info", *"12345"), finding("a", "warning", *"123"), finding("a", "warning", *"1234", confidence=0.5),
    )  # fmt: skip
    bad = finding("z", "error", "1")
    assert worst_first([mild, doubtful, sure, bad]) == [bad, sure, doubtful, mild]


def test_findings_are_kept_as_they_are_with_their_repairs(tmp_path: Path):
    content = Conversation((Message("user", "a"), Message("assistant", "b", weight=0)))
    repairs = (Repair("1", "fix", False, content), Repair("2", "drop", True))
    found = Found(
        (Finding("duplicates", "exact", "warning", 0.5, ("1", "2"), "detail", "fix", repairs),),
        {"1": Place("1", "a.jsonl", 3)}, {"1": Excerpt("before", None), "2": Excerpt("x", "y")},
        ClusterMap((Spot("two words", 0.25, 1.0, ("1", "2"), "1", "'a'"),), 0.5),
    )  # fmt: skip
    cache = FindingsCache(["data"], tmp_path)
    assert cache.found("duplicates") is None and cache.summary() is None
    cache.keep("duplicates", found)
    cache.keep_summary(Summary(3, 1, (0, 2)))
    again = FindingsCache(["data"], tmp_path)
    assert again.found("duplicates") == found and again.summary() == Summary(3, 1, (0, 2))
    assert again.found("leaks") is None and FindingsCache(["other"], tmp_path).found("duplicates") is None


def test_another_version_of_a_library_or_a_changed_file_is_other_code(monkeypatch: pytest.MonkeyPatch):
    code = findings_cache.reading_code.__wrapped__
    before = code()
    assert code() == before
    with monkeypatch.context() as patched:
        patched.setattr(findings_cache, "version", lambda name: "0.1" if name == "scikit-learn" else "1")
        assert code() != before
    monkeypatch.setattr(findings_cache, "file_hash", lambda file: "" if file.name == "hashing.py" else file_hash(file))
    assert code() != before, "what the checks rest on is not in data/ alone"


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"findings": 3, "places": {}, "excerpts": {}}', "\x00", "{" * 5000]
)
def test_a_damaged_entry_is_none(tmp_path: Path, damage: str):
    cache = FindingsCache(["data"], tmp_path)
    cache.keep("duplicates", Found((), {}, {}))
    (file,) = tmp_path.rglob("*.json")
    file.write_text(damage)
    assert cache.found("duplicates") is None
