"""Few rows: every row is answered by a model that never saw it, the proof says so, and a stop costs one fold at most."""

import atexit
import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import luthier as command
from command import refused
from small_run import SETTINGS, needs_starter, rows

import luthier
from luthier.config.load import load
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.data.folds import deal_folds
from luthier.data.store import RowWriter, read_stored
from luthier.recipes.cross_fit import deal_into_folds, fitting_folds
from luthier.recipes.run import prepared
from luthier.recipes.voice import Voice

FOLDS = 3
FEW = {
    **SETTINGS, "compare.folds": FOLDS, "train.steps": 2, "train.validate_every": 1, "split.validation_share": 0.2, "compare.train_rows": 0,
    "compare.latency_rows": 1, "generate.max_new_tokens": 2,
}  # fmt: skip


@cache
def cross_fitted() -> "luthier.Run":
    folder = mkdtemp(prefix="luthier-folds-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    out = Path(folder) / "run"
    return luthier.run(rows(), input="text", output="queue", out=out, settings=FEW, quiet=True)


def copied(folder: Path) -> RunDir:
    return RunDir(shutil.copytree(cross_fitted().path, folder / "run"))


def ids(path: Path) -> list[str]:
    return pq.read_table(path, columns=["id"])["id"].to_pylist()


def fold_runs(run: RunDir) -> list[RunDir]:
    return [RunDir(run.path / "folds" / str(fold)) for fold in range(1, FOLDS + 1)]


@needs_starter
def test_every_row_is_answered_once_by_a_model_that_never_saw_it():
    run, verdict = RunDir(cross_fitted().path), cross_fitted().verdict
    cluster_of = {row["id"]: row["cluster"] for row in pq.read_table(run.ledger).to_pylist()}
    answered: list[str] = []
    for fold in fold_runs(run):
        asked, seen = ids(fold.part("test")), {*ids(fold.part("train")), *ids(fold.part("validation"))}
        assert asked and not {*asked} & seen and {*asked} | seen == {*cluster_of}
        assert not {cluster_of[row] for row in asked} & {cluster_of[row] for row in seen}
        assert ids(fold.arm_answers("tuned")) == asked
        answered += asked
    for arm in ("classical", "zero_shot", "tuned"):
        assert ids(run.arm_answers(arm)) == answered
    assert sorted(answered) == sorted(cluster_of) and len(answered) == 30
    assert verdict["cross_fit"]["rows"] == 30 and verdict["cross_fit"]["folds"] == FOLDS
    scores = pq.read_table(run.arm_answers("classical"))["score"].to_numpy()
    assert verdict["arms"]["classical"]["score"] == pytest.approx(scores.mean())
    of_folds = verdict["cross_fit"]["scores"]["classical"]
    sizes = [len(ids(fold.part("test"))) for fold in fold_runs(run)]
    assert np.average(of_folds, weights=sizes) == pytest.approx(scores.mean())


@needs_starter
def test_the_model_that_ships_is_trained_on_all_rows_and_the_ledger_says_so():
    run = RunDir(cross_fitted().path)
    held = {*ids(run.part("validation"))}
    assert ids(run.part("test")) == [] and held and len(ids(run.part("train"))) + len(held) == 30
    data = cross_fitted().verdict["data"]
    assert (data["read"], data["train"], data["test"]) == (30, 30 - len(held), 0)
    assert max(cross_fitted().verdict["cross_fit"]["trained_rows"]) < data["train"]
    assert cross_fitted().settings.compare.folds == FOLDS, "written back"


@needs_starter
def test_the_proof_says_what_it_cost_and_whom_it_holds_for():
    run, verdict = RunDir(cross_fitted().path), cross_fitted().verdict
    log, page = run.log.read_text(), run.report.read_text()
    assert f"beside it {FOLDS} trainings for the proof, about" in log and "--set compare.folds=0" in log
    assert log.index("for the proof") < log.index("\ntrained ")
    assert any("holds for the recipe" in reason for reason in verdict["reasons"]) or verdict["outcome"] != "tuned wins"
    assert f"all 30 rows, in {FOLDS} folds" in page and "Fold by fold" in page
    events = list(entries(run.events))
    declared = next(entry for entry in events if entry["event"] == "test_declared")
    assert f"{FOLDS} fold models" in declared["method"]
    assert declared["time"] < next(iter(entries(fold_runs(run)[0].events)))["time"]
    assert [entry["event"] for entry in events].count("arm_timed") == 2, "latency is measured in one fold"
    assert verdict["looks"]["count"] == 1


@needs_starter
def test_a_stop_costs_one_fold_and_the_verdict_is_the_same(tmp_path: Path):
    run = copied(tmp_path)
    first, second, third = fold_runs(run)
    shutil.rmtree(second.path)
    kept = {path: path.stat().st_mtime_ns for fold in (first, third) for path in fold.path.rglob("*.safetensors")}
    called = command("compare", run.path, "--json")
    assert called.code == 0, called.err
    assert kept and {path: path.stat().st_mtime_ns for path in kept} == kept
    assert second.metrics.read_bytes() == RunDir(cross_fitted().path / "folds" / "2").metrics.read_bytes()
    again, before = json.loads(called.out), cross_fitted().verdict
    for key in ("differences", "because", "clusters"):
        assert again[key] == before[key], key
    assert again["cross_fit"]["scores"] == before["cross_fit"]["scores"]


@needs_starter
def test_a_fold_that_trained_on_a_row_of_its_own_makes_the_report_refuse_the_claim(tmp_path: Path):
    run = copied(tmp_path)
    second = fold_runs(run)[1]
    trained = [*read_stored(second.part("train")), next(iter(read_stored(second.part("test"))))]
    with RowWriter(second.part("train")) as writer:
        for row in trained:
            writer.write(row)
    called = command("compare", run.path, "--json")
    assert called.code == 0, called.err
    verdict = json.loads(called.out)
    assert verdict["outcome"] == "refused" and "in fold 2, 1 of the" in verdict["because"]
    assert "<h1>Nothing can be claimed" in run.report.read_text()


@needs_starter
def test_folds_are_refused_where_they_contradict_something(tmp_path: Path):
    refused(
        command("compare", cross_fitted().path, "--set", "compare.folds=4"),
        "compare.folds",
        "before anything is trained",
    )
    data, test = tmp_path / "rows.jsonl", tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    test.write_text(json.dumps({"text": "Where is my new bicycle?", "queue": "shipping"}) + "\n")
    flags = [f"--set={key}={json.dumps(value)}" for key, value in FEW.items()]
    asked = ("run", data, "--input", "text", "--output", "queue", *flags)
    refused(command(*asked, "--test", test, "--out", tmp_path / "a"), "compare.folds is 3", "data.test", "set it to 0")
    refused(command(*asked, "--set", "compare.folds=31", "--out", tmp_path / "b"), "30 clusters")
    refused(command(*asked, "--seeds", "2", "--out", tmp_path / "c"), "compare.seeds", "set it to 0")


@needs_starter
def test_a_suite_for_promptfoo_needs_a_test_part(tmp_path: Path):
    refused(command("export", cross_fitted().path, "--format", "promptfoo", "--to", tmp_path / "suite"), "no test part")


@pytest.mark.parametrize(
    ("num_rows", "clusters", "folds"), [(1499, 1400, 5), (1500, 1400, 0), (300, 20, 5), (300, 19, 0)]
)
def test_few_rows_are_cross_fitted_where_nobody_said_otherwise(num_rows: int, clusters: int, folds: int):
    assert fitting_folds(num_rows, clusters) == folds


@needs_starter
def test_the_number_of_folds_is_written_back_and_a_test_part_is_given_up_for_them(tmp_path: Path):
    open_ = {key: value for key, value in FEW.items() if key != "compare.folds"}
    named = {**open_, "data.input": "text", "data.output": ["queue"]}
    job = prepared(rows(), load(flags=named), tmp_path / "few", Voice(quiet=True))
    assert len(ids(job.run.part("test"))) == 6
    deal_into_folds(job)
    assert load([job.run.config]).compare.folds == 5
    assert (
        ids(job.run.part("test")) == [] and len(ids(job.run.part("train"))) + len(ids(job.run.part("validation"))) == 30
    )
    once = job.run.assignment.read_bytes()
    deal_into_folds(job)
    assert job.run.assignment.read_bytes() == once
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"text": "Where is my new bicycle?", "queue": "shipping"}) + "\n")
    job = prepared(rows(), load(flags={**named, "data.test": str(test)}), tmp_path / "own", Voice(quiet=True))
    deal_into_folds(job)
    assert load([job.run.config]).compare.folds == 0 and len(ids(job.run.part("test"))) == 1


def test_folds_are_whole_clusters_of_about_equal_size_and_repeat():
    clusters = [0] * 40 + [*range(1, 61)]
    dealt = deal_folds(clusters, 4, seed=0)
    assert len({*dealt[:40]}) == 1 and {*dealt} == {1, 2, 3, 4}
    assert sorted(dealt.count(fold) for fold in (1, 2, 3, 4)) == [20, 20, 20, 40]
    assert dealt == deal_folds(clusters, 4, seed=0) != deal_folds(clusters, 4, seed=1)
