"""Forgetting is measured on general rows that nothing trained; replaying others against it works, and the ledger knows them."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp

import pyarrow.parquet as pq
import pytest
from command import luthier as command
from command import refused
from small_run import SETTINGS, needs_starter, rows

import luthier
from luthier.core.rundir import RunDir
from luthier.data.store import RowWriter, read_stored
from luthier.verdict.forgotten import forgetting_words, forgotten

SAMPLE = Path(str(files("luthier.starter") / "general.jsonl"))
HARD = {
    **SETTINGS, "train.steps": 10, "train.lr": 3e-3, "train.batch_tokens": 400, "train.validate_every": 10, "train.weights": "last",
    "train.method": "full", "compare.arms": ["classical", "tuned"], "compare.train_rows": 0, "compare.latency_rows": 0, "generate.max_new_tokens": 2,
}  # fmt: skip


@cache
def tuned(replay: float) -> "luthier.Run":
    """A hard tuning on a few rows: without replay on the sample, with it on a file of the user's that holds a row of the task too."""
    folder = Path(mkdtemp(prefix="luthier-general-"))
    own = folder / "general.jsonl"
    asked = rows()[0]
    overlap = {"messages": [{"role": "user", "content": asked["text"]}, {"role": "assistant", "content": "other"}]}
    own.write_text(SAMPLE.read_text() + json.dumps(overlap) + "\n")
    values = {**HARD, "train.replay": replay, "data.general": str(own) if replay else None}
    return luthier.run(rows(), input="text", output="queue", out=folder / "run", settings=values, quiet=True)


def ids(path: Path) -> set[str]:
    return set(pq.read_table(path, columns=["id"])["id"].to_pylist())


@needs_starter
def test_a_hard_tuning_forgets_and_replayed_rows_keep_it_from_that():
    bare, replayed = (tuned(share).verdict["forgetting"] for share in (0.0, 0.5))
    assert bare["rows"] == replayed["rows"] and bare["loss"]["before"] == pytest.approx(replayed["loss"]["before"])
    assert bare["loss"]["outcome"] == "worse" and bare["loss"]["value"] > 0.1
    assert replayed["loss"]["value"] < 0.5 * bare["loss"]["value"]
    assert bare["right"]["before"] > 0.4, "the starter knows the general questions"
    assert bare["right"]["after"] < 0.1 < 0.2 < replayed["right"]["after"]


@needs_starter
def test_the_verdict_and_the_report_say_what_was_forgotten_and_what_helps():
    run = tuned(0.0)
    assert run.settings.data.general == "sample", "the default for the starter, written back"
    reason = next(reason for reason in run.verdict["reasons"] if "made the model forget" in reason)
    assert "bits per byte before" in reason and "train.replay=0.2" in reason
    page = RunDir(run.path).report.read_text()
    assert "On general rows that nothing trained (sample)" in page
    again = command("compare", run.path, "--json")
    assert json.loads(again.out)["forgetting"] == run.verdict["forgetting"]


@needs_starter
def test_replayed_rows_are_in_the_ledger_and_held_out_ones_are_not_trained():
    run = RunDir(tuned(0.5).path)
    ledger = pq.read_table(run.ledger).to_pylist()
    replayed = {row["id"]: row for row in ledger if row["fate"] == "replay"}
    assert replayed.keys() == ids(run.general("replay")) and not replayed.keys() & ids(run.general("general"))
    assert all(row["part"] is None and row["trained_tokens"] > 0 for row in replayed.values())
    data = tuned(0.5).verdict["data"]
    assert data["replay"] == len(replayed)
    assert data["read"] == data["train"] + data["validation"] + data["test"] + data["replay"] == 30 + len(replayed)
    held = len(ids(run.general("general")))
    assert held + len(replayed) == len(SAMPLE.read_text().splitlines()), "the row of the task is in neither"
    assert "replay" not in tuned(0.0).verdict["data"]


@needs_starter
def test_a_test_row_among_the_replayed_ones_makes_the_report_refuse_the_claim():
    run = RunDir(tuned(0.5).path)
    before = run.general("replay").read_bytes()
    mixed = [*read_stored(run.general("replay")), next(iter(read_stored(run.part("test"))))]
    with RowWriter(run.general("replay")) as writer:
        for row in mixed:
            writer.write(row)
    verdict = json.loads(command("compare", run.path, "--json").out)
    run.general("replay").write_bytes(before)
    assert verdict["outcome"] == "refused" and "among the replay rows" in verdict["because"]


def test_replay_needs_something_to_replay(tmp_path: Path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    flags = [
        f"--set={key}={json.dumps(value)}"
        for key, value in {**HARD, "data.general": "none", "train.replay": 0.2}.items()
    ]
    refused(
        command("run", data, "--input", "text", "--output", "queue", *flags, "--out", tmp_path / "a"),
        "train.replay",
        "data.general",
    )
    few = tmp_path / "few.jsonl"
    few.write_text('{"text": "A single line of general text, and no more."}\n')
    flags[-2] = f"--set=data.general={few}"
    refused(
        command("run", data, "--input", "text", "--output", "queue", *flags, "--out", tmp_path / "b"), "too few rows"
    )


def test_words_are_said_where_there_is_something_to_say():
    loss = {"before": 1.0, "after": 1.2, "value": 0.2, "interval": [0.1, 0.3], "outcome": "worse"}
    found = {"source": "mine.jsonl", "replay": 0.3, "rows": 40, "loss": loss, "questions": 0, "right": None}
    assert "30 % of every step were general rows already" in forgotten(found)
    assert "1.000 bits per byte before and 1.200 after on 40 rows" in forgetting_words(found)
    assert forgotten({**found, "loss": {**loss, "outcome": "equivalent"}}) == ""
    assert forgotten(None) == forgetting_words(None) == ""
