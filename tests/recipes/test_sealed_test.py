"""Sealed means sealed: what was declared, how often the test was looked at, and no claim where it was trained on."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_run import finished, needs_starter
from typer.testing import CliRunner

from luthier.cli.main import app
from luthier.core.journal import entries
from luthier.core.looks import LOOKS
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject
from luthier.data.store import RowWriter, read_stored

pytestmark = needs_starter


def copied(folder: Path) -> RunDir:
    return RunDir(shutil.copytree(finished().path, folder))


def compared(run: RunDir, *flags: str) -> JsonObject:
    done = CliRunner().invoke(app, ["compare", str(run.path), "--json", *flags], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def replace_part(run: RunDir, part: str, also: str) -> None:
    """Append the first row of another part, as somebody would who trains on the test."""
    rows = [*read_stored(run.part(part)), next(iter(read_stored(run.part(also))))]  # type: ignore[arg-type]
    with RowWriter(run.part(part)) as writer:  # type: ignore[arg-type]
        for row in rows:
            writer.write(row)


def test_the_one_primary_test_is_declared_before_any_arm_answers():
    run = RunDir(finished().path)
    events = [str(entry["event"]) for entry in entries(run.events)]
    assert events.index("test_declared") < events.index("arm_described")
    declared = finished().verdict["declared"]
    assert (declared["primary"], declared["against"]) == ("tuned", ["classical", "zero_shot"])
    assert declared["grader"] == "accuracy" and declared["margin"] == 0.01


def test_looks_are_counted_over_runs_and_going_on_is_no_second_look(tmp_path: Path):
    first = copied(tmp_path / "first")
    assert compared(first)["looks"]["count"] == 1
    assert compared(first)["looks"]["count"] == 1
    assert compared(copied(tmp_path / "second"))["looks"]["count"] == 2
    third = compared(copied(tmp_path / "third"))
    assert third["looks"]["count"] == 3
    assert any("looked at 3 times" in reason for reason in third["reasons"])
    assert "looked at 3 times" in (tmp_path / "third" / "report.html").read_text()
    assert len((tmp_path / LOOKS).read_text().splitlines()) == 3


def test_a_margin_that_changes_after_the_look_is_told(tmp_path: Path):
    run = copied(tmp_path / "run")
    verdict = compared(run, "--margin", "0.5")
    assert verdict["margin"] == 0.5 and verdict["declared"]["margin"] == 0.01
    assert any("declared" in reason for reason in verdict["reasons"])


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_test_row_among_the_training_rows_makes_the_report_refuse_the_claim(tmp_path: Path, part: str):
    run = copied(tmp_path / "run")
    replace_part(run, part, "test")
    verdict = compared(run)
    assert verdict["outcome"] == "refused"
    assert f"1 of the 6 test rows are among the {part} rows (<python>:" in verdict["because"]
    page = run.report.read_text(encoding="utf-8")
    assert "<h1>Nothing can be claimed" in page and "beats" not in page


def test_a_training_row_put_into_the_test_is_found_too(tmp_path: Path):
    run = copied(tmp_path / "run")
    replace_part(run, "test", "train")
    for answers in run.answers.glob("*.parquet"):
        answers.unlink()
    assert compared(run)["outcome"] == "refused"


def test_a_ledger_that_was_altered_is_found(tmp_path: Path):
    run = copied(tmp_path / "run")
    table = pq.read_table(run.ledger)
    parts = ["train" if part == "test" else part for part in table["part"].to_pylist()]
    place = table.column_names.index("part")
    pq.write_table(table.set_column(place, "part", pa.array(parts, pa.string())), run.ledger)
    verdict = compared(run)
    assert verdict["outcome"] == "refused" and "not there by the ledger" in verdict["because"]


def test_weights_that_were_trained_on_other_rows_are_found(tmp_path: Path):
    """As when test rows were trained on and taken out again afterwards."""
    run = copied(tmp_path / "run")
    rows = list(read_stored(run.part("train")))
    with RowWriter(run.part("train")) as writer:
        for row in rows[:-1]:
            writer.write(row)
    verdict = compared(run)
    assert verdict["outcome"] == "refused" and "trained on other rows" in verdict["because"]
