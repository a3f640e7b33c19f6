"""`luthier.check` and `luthier.split` from Python."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import luthier

DUPLICATES = {"check.skip": ["label_errors", "coverage", "near_duplicates"]}


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def rows(count: int = 30) -> list[dict[str, str]]:
    return [{"text": f"what about item {n * 7919} of list {n * 31}?", "label": f"queue {n % 3}"} for n in range(count)]


def test_rows_from_python_are_checked_and_mended(tmp_path: Path):
    given = (row for row in [*rows(), rows()[0], rows()[0]])
    seen = luthier.check(given, input="text", output="label", fix="clean.jsonl", settings=DUPLICATES, quiet=True)
    assert seen.rows == 32 and seen.health["unique"] == pytest.approx(1 - 3 / 32) and seen.healthy
    assert seen.written == {"read": 32, "as_is": 30, "fixed": 0, "dropped": 2, "set_aside": 0}
    assert [json.loads(line) for line in Path("clean.jsonl").read_text().splitlines()] == rows()
    assert any(finding["check"] == "duplicates" for finding in seen.findings)
    assert "duplicates: exact" in str(seen) and "<!doctype html>" in seen._repr_html_()
    assert seen.save_report("page.html").exists() and seen.written is not None


def test_a_file_is_checked_against_its_test_file_and_limits_are_settings(tmp_path: Path):
    for name, some in (("train", rows()), ("test", rows(33)[28:])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    chosen = DUPLICATES | {"check.limits.leak_free": 1.0}
    seen = luthier.check("train.jsonl", test="test.jsonl", settings=chosen, quiet=True)
    assert not seen.healthy and "leak_free" in repr(seen) and seen.written is None


def test_of_rows_from_python_nothing_is_kept_and_files_only_unless_it_is_refused(tmp_path: Path):
    seen = [luthier.check(rows(), settings=DUPLICATES, quiet=True) for _ in range(2)]
    assert seen[0].as_json() == seen[1].as_json() and not (tmp_path / "cache").exists()
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    luthier.check("rows.jsonl", settings=DUPLICATES, cache=False, quiet=True)
    assert not (tmp_path / "cache").exists()
    kept = luthier.check("rows.jsonl", settings=DUPLICATES, quiet=True)
    assert list((tmp_path / "cache").rglob("*.json")) and kept.rows == 30


def test_split_returns_the_certificate_that_it_writes(tmp_path: Path):
    certificate = luthier.split(rows(), out="parts", input="text", output="label", quiet=True)
    assert json.loads(Path("parts/certificate.json").read_text()) == certificate
    assert (
        sum(len(Path(f"parts/{part}.jsonl").read_text().splitlines()) for part in ("train", "validation", "test")) == 30
    )


def test_a_check_loads_no_torch():
    code = (
        "import sys, luthier; luthier.check; print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
