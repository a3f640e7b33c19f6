"""Finished runs as models: seen as soon as they are proven, by the names of their folders, and only as they were proven."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from desks import Bench, bench

from luthier.config.load import dump
from luthier.config.serving import ServeSettings, parse_serving
from luthier.config.settings import Settings
from luthier.core.errors import SettingsError
from luthier.core.hashing import file_hash
from luthier.core.rundir import RunDir, create, write_json
from luthier.server.catalogue import Start, listed, one, served_of, start_of
from luthier.server.control import Control
from luthier.server.engines import Served
from luthier.server.errors import ApiError


@pytest.fixture
def desk(tmp_path: Path) -> Bench:
    return bench(tmp_path / "data")


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """What the module logs, whatever other tests, and what they import, have made of logging in this process."""
    logger, stream = logging.getLogger("luthier.server.runs"), io.StringIO()
    handler, before = logging.StreamHandler(stream), (logger.level, logger.disabled, logging.root.manager.disable)
    logger.addHandler(handler)
    logger.disabled = False
    logging.disable(logging.NOTSET)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.disabled = before[1]
    logging.disable(before[2])
    logger.setLevel(before[0])


def begun(path: Path) -> RunDir:
    run = create(path, "x")
    run.config.write_text(dump(Settings()))
    run.event("trained", best_step=12, steps=20, tokens=1)
    return run


def prove(run: RunDir) -> RunDir:
    run.package.mkdir(exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
        (run.package / name).write_text(name)
    hashes = {path.name: file_hash(path) for path in run.package.iterdir()}
    write_json(run.package / "certificate.json", {"files": {**hashes}})
    return run


def control_over(desk: Bench, runs: Path) -> Control:
    return Control(desk.folder, desk.database, parse_serving({"runs": str(runs), "models": {"mapped": "starter"}}))


def names(control: Control, desk: Bench) -> list[str]:
    return [str(model["id"]) for model in listed(control, desk.project, 1)]


def test_a_run_that_ends_beside_the_server_is_a_model_for_everybody(desk: Bench, tmp_path: Path):
    (runs := tmp_path / "runs").mkdir()
    control = control_over(desk, runs)
    run = begun(runs / "tickets")
    assert names(control, desk) == ["starter", "mapped"] and served_of(control, desk.project, "tickets") is None
    prove(run)
    assert names(control, desk) == ["starter", "mapped", "tickets"]
    for project in (desk.project, "another project"):
        served = served_of(control, project, "tickets")
        assert isinstance(served, Served)
        assert (served.name, served.base, served.adapter) == ("tickets", "starter", run.package)
        assert start_of(control, project, "tickets") == Start("starter", str(run.checkpoints / "000012"))
        found = one(control, project, "tickets", 1)
        assert found is not None and (found["root"], found["owned_by"]) == ("tickets", "luthier")


def test_a_run_that_is_made_anew_under_its_name_is_another_one(desk: Bench, tmp_path: Path):
    run = prove(begun(tmp_path / "runs" / "tickets"))
    control = control_over(desk, tmp_path / "runs")
    before = served_of(control, desk.project, "tickets")
    run.empty()
    run.path.rmdir()
    prove(begun(run.path))
    assert served_of(control, desk.project, "tickets") != before, "an engine would go on with the old weights"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run.package / "certificate.json").unlink(), "has not been made and proven"),
        (lambda run: (run.package / "certificate.json").write_text("{"), "Expecting property name"),
        (lambda run: (run.package / "certificate.json").write_text("[]"), "names no files"),
        (lambda run: (run.package / "adapter_model.safetensors").unlink(), "package/adapter_model.safetensors is gone"),
        (lambda run: run.config.write_text("trian: 1\n"), "Did you mean 'train'"),
    ],
)  # fmt: skip
def test_what_is_unfinished_or_broken_is_left_out_and_why_is_logged_once(
    desk: Bench, tmp_path: Path, told: io.StringIO, spoil, words: str
):
    run = prove(begun(tmp_path / "runs" / "tickets"))
    spoil(run)
    control = control_over(desk, tmp_path / "runs")
    assert [names(control, desk) for _ in range(3)] == [["starter", "mapped"]] * 3
    assert served_of(control, desk.project, "tickets") is None
    assert str(run.path) in told.getvalue() and told.getvalue().count(words) == 1


def test_only_what_was_proven_is_served(desk: Bench, tmp_path: Path, told: io.StringIO):
    run = prove(begun(tmp_path / "runs" / "tickets"))
    control = control_over(desk, tmp_path / "runs")
    (run.package / "README.md").write_text("a verdict was made anew")
    assert served_of(control, desk.project, "tickets") is not None
    weights = run.package / "adapter_model.safetensors"
    weights.write_text(weights.read_text().upper())
    for _ in range(2):
        with pytest.raises(ApiError, match="cannot be loaded") as refused:
            served_of(control, desk.project, "tickets")
        assert (refused.value.status, refused.value.code) == (503, "model_unavailable")
    assert "adapter_model.safetensors is not the file that was proven" in told.getvalue()


def test_a_name_is_never_a_path_and_hides_no_other_model(desk: Bench, tmp_path: Path):
    runs = tmp_path / "runs"
    for name in ("tickets", "starter", "mapped", ".hidden", "line\nbreak", "group/inner"):
        prove(begun(runs / name))
    prove(begun(tmp_path / "outside"))
    control = control_over(desk, runs)
    assert names(control, desk) == ["starter", "mapped", "tickets"]
    for name in (
        "../outside", "tickets/../../outside", str(tmp_path / "outside"), "./tickets", "tickets/", "", ".", "..",
        ".hidden", "line\nbreak", "group", "group/inner", "tickets/package", "TICKETS", "tickets\0",
    ):  # fmt: skip
        assert served_of(control, desk.project, name) is None and start_of(control, desk.project, name) is None, name
    assert start_of(control, desk.project, "starter") == start_of(control, desk.project, "mapped") == Start("starter")


def test_runs_beside_the_server_are_the_default(desk: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    control = Control(desk.folder, desk.database, ServeSettings())
    assert names(control, desk) == ["starter"]
    prove(begun(tmp_path / "runs" / "tickets"))
    assert names(control, desk) == ["starter", "tickets"]
    assert names(Control(desk.folder, desk.database, parse_serving({"runs": ""})), desk) == ["starter"]
    with pytest.raises(SettingsError, match=r"runs: .*/rnus is no folder"):
        Control(desk.folder, desk.database, parse_serving({"runs": "rnus"}))
