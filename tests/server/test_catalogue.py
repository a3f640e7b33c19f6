"""What a model's name means: the map first, then the starter, then what the project has made; never a path."""

from pathlib import Path

import pytest
from desks import Bench, bench, uploaded

from luthier.config.load import dump
from luthier.config.serving import ServeSettings, parse_serving
from luthier.config.settings import Settings
from luthier.core.errors import SettingsError
from luthier.core.rundir import RunDir, create
from luthier.jobs.files import Arrived
from luthier.jobs.queue import Outcome
from luthier.jobs.records import CheckpointRecord
from luthier.server.catalogue import Start, check_map, listed, one, served_of, start_of
from luthier.server.control import Control
from luthier.server.engines import Served
from luthier.server.errors import ApiError


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)  # where no runs lie
    return bench(tmp_path / "data")


def trained_run(path: Path) -> RunDir:
    run = create(path, "x")
    run.config.write_text(dump(Settings()))
    run.event("trained", best_step=12, steps=20, tokens=1)
    return run


def test_names_of_the_map_lead_to_models_folders_and_runs(desk: Bench, tmp_path: Path):
    run = trained_run(tmp_path / "run")
    (tmp_path / "model").mkdir()
    mapped = {
        "gpt-4o": "starter",
        "gpt-5": "org/model",
        "mine": str(tmp_path / "model"),
        "ft:gpt:acme::abc": str(run.path),
    }
    control = Control(desk.folder, desk.database, parse_serving({"models": mapped}))
    check_map(control)
    wanted = [
        Start("starter"), Start("org/model"), Start(str(tmp_path / "model")), Start("starter", str(run.checkpoints / "000012")),
    ]  # fmt: skip
    assert [start_of(control, desk.project, name) for name in mapped] == wanted
    roots = {str(model["id"]): model["root"] for model in listed(control, desk.project, 1)}
    assert roots == {
        "starter": "starter", "gpt-4o": "starter", "gpt-5": "org/model", "mine": "model", "ft:gpt:acme::abc": "run",
    }, "a place on the server's disk is told"  # fmt: skip


def test_a_run_of_the_map_answers_with_its_package(desk: Bench, tmp_path: Path):
    runs = [trained_run(tmp_path / name) for name in ("whole", "layers", "unfinished")]
    for run in runs[:2]:
        run.package.mkdir()
    (runs[1].package / "adapter_config.json").write_text("{}")
    names = {run.path.name: str(run.path) for run in runs}
    control = Control(desk.folder, desk.database, parse_serving({"models": {**names, "big": "org/model"}}))
    whole, layers = (run.package.stat().st_mtime_ns for run in runs[:2])
    assert served_of(control, desk.project, "whole") == Served("whole", str(runs[0].package), made=whole)
    adapted = Served("layers", "starter", adapter=runs[1].package, made=layers)
    assert served_of(control, desk.project, "layers") == adapted
    assert served_of(control, desk.project, "big") == Served("org/model", "org/model")
    assert served_of(control, desk.project, "starter") == Served("starter", "starter")
    assert served_of(control, desk.project, str(runs[0].path)) is None
    with pytest.raises(ApiError, match="no package yet"):
        served_of(control, desk.project, "unfinished")


def test_a_request_cannot_name_a_path_or_a_repository(desk: Bench, tmp_path: Path):
    control = Control(desk.folder, desk.database, ServeSettings())
    for name in (str(tmp_path), "org/model", "..", "", "Starter"):
        assert start_of(control, desk.project, name) is None


def test_a_run_that_was_not_trained_is_refused_at_the_start(desk: Bench, tmp_path: Path):
    run = create(tmp_path / "run", "x")
    run.config.write_text(dump(Settings()))
    control = Control(desk.folder, desk.database, parse_serving({"models": {"m": str(run.path)}}))
    with pytest.raises(SettingsError, match=r"models\.m: .* has not finished training"):
        check_map(control)


def test_models_and_checkpoints_of_a_job_are_where_training_goes_on_from(desk: Bench):
    control = Control(desk.folder, desk.database, ServeSettings())
    job = desk.queued_job(uploaded(desk))
    token = desk.claimed("train").token
    desk.queue.publish(job.id, token, 4, "ft:a:ckpt-step-4", {"step": 4})
    path = desk.folder.incoming / "r"
    path.write_bytes(b"")
    result = desk.files.place(Arrived(path, "r.csv", 0, ""), desk.project, "fine-tune-results")
    desk.queue.succeed(job.id, token, Outcome("ft:a", "starter", "jobs/x/run/checkpoints/000008", "p", result, 1))
    assert start_of(control, desk.project, "ft:a") == Start(
        "starter", str(desk.folder.path / "jobs/x/run/checkpoints/000008")
    )
    step_4 = str(desk.folder.checkpoint(job.id, 4))
    assert start_of(control, desk.project, "ft:a:ckpt-step-4") == Start("starter", step_4)
    assert [model["id"] for model in listed(control, desk.project, 1)] == ["ft:a", "starter"]
    assert one(control, desk.project, "ft:a:ckpt-step-4", 1) is not None
    checkpoint = served_of(control, desk.project, "ft:a:ckpt-step-4")
    assert isinstance(checkpoint, CheckpointRecord) and (checkpoint.job_id, checkpoint.step) == (job.id, 4)
    assert served_of(control, "another project", "ft:a:ckpt-step-4") is None
    assert start_of(control, "another project", "ft:a") is None
    assert one(control, "another project", "ft:a:ckpt-step-4", 1) is None
    assert desk.jobs.delete_model(desk.project, "ft:a") and start_of(control, desk.project, "ft:a") is None
