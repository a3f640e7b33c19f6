"""The models that clients may name: where training from each begins, and what answers under each.

A name is looked up in the model map of the settings, then it is `starter`, then a model or a checkpoint that the
project has made, then a finished run of the folder of runs. Nothing else is loaded: a request cannot name a path or a
repository.
"""

from dataclasses import dataclass
from pathlib import Path

from luthier.config.load import load
from luthier.core.errors import SettingsError
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject
from luthier.jobs.records import CheckpointRecord
from luthier.server.control import Control
from luthier.server.engines import Served
from luthier.server.errors import ApiError
from luthier.server.runs import base_of
from luthier.server.wire import model_object, tuned_model_object

STARTER = "starter"
_OWNER = "luthier"


@dataclass(frozen=True, slots=True)
class Start:
    """Where training begins: a base model, and a checkpoint of weights tuned from it."""

    base: str
    warm_from: str | None = None


def start_of(control: Control, project_id: str, name: str) -> Start | None:
    """Return what a model's name means to this project; None when it means nothing."""
    if name in control.serving.models:
        return _mapped(control.serving.models[name])
    if name == STARTER:
        return Start(STARTER)
    for model in control.jobs.models(project_id):
        if model.id == name:
            return Start(model.base, str(control.folder.path / model.checkpoint))
    checkpoint = control.jobs.checkpoint_of(project_id, name)
    if checkpoint is None:
        run = control.runs.find(name)
        return None if run is None else _trained(run, name)
    job = control.jobs.find(project_id, checkpoint.job_id)
    assert job is not None
    return Start(job.base, str(control.folder.checkpoint(job.id, checkpoint.step)))


def served_of(control: Control, project_id: str, name: str) -> Served | CheckpointRecord | None:
    """Return what answers under a model's name, or the checkpoint that has to be made ready for it first.

    None when the name means nothing to this project.
    """
    if name in control.serving.models:
        path = Path(meaning := control.serving.models[name]).absolute()
        if RunDir(path).config.exists():
            return _packaged(RunDir(path), path.name)
        return Served(path.name, str(path)) if path.is_dir() else Served(meaning, meaning)
    if name == STARTER:
        return Served(STARTER, STARTER)
    for model in control.jobs.models(project_id):
        if model.id == name and model.package is not None:
            return _packaged(RunDir((control.folder.path / model.package).parent), name)
    checkpoint = control.jobs.checkpoint_of(project_id, name)
    if checkpoint is None and (run := control.runs.find(name)) is not None:
        control.runs.check(run)
        return _packaged(run, name)
    return checkpoint


def meaning_of(control: Control, name: str) -> str | None:
    """Return what the model map says that a name is, as clients are told: the places of folders are the server's affair."""
    meaning = control.serving.models.get(name)
    if meaning is None:
        return None
    path = Path(meaning).absolute()
    return path.name if path.is_dir() else meaning


def listed(control: Control, project_id: str, started: int) -> list[JsonObject]:
    """Return the models of a project, as the API lists them; `started` is since when the given ones are there.

    `root` tells what a name of the model map leads to, as vLLM tells it.
    """
    tuned = [tuned_model_object(model) for model in control.jobs.models(project_id)]
    given = [model_object(name, started, _OWNER) for name in (STARTER, *control.serving.models)]
    mapped = [model | {"root": meaning_of(control, str(model["id"])) or STARTER} for model in given]
    taken = {str(model["id"]) for model in tuned + mapped}
    runs = [model_object(name, proven, _OWNER) | {"root": name} for name, proven in control.runs.finished().items()]
    return tuned + mapped + [model for model in runs if str(model["id"]) not in taken]


def one(control: Control, project_id: str, name: str, started: int) -> JsonObject | None:
    """Return one model; checkpoints are not listed, but are found by their names."""
    for model in listed(control, project_id, started):
        if model["id"] == name:
            return model
    checkpoint = control.jobs.checkpoint_of(project_id, name)
    return None if checkpoint is None else model_object(name, checkpoint.created_at, project_id)


def check_map(control: Control) -> None:
    """Raise SettingsError for a name in the model map that leads to a run which has not been trained."""
    for name, meaning in control.serving.models.items():
        try:
            _mapped(meaning)
        except ApiError as error:
            raise SettingsError(f"models.{name}: {error}") from error


def packaged(run: RunDir, package: Path, name: str) -> Served:
    """Return what a package of a run serves: weights of its own, or an adapter over the run's base."""
    model = base_of(run)
    made = package.stat().st_mtime_ns  # of the folder, which is moved into its place whole
    if (package / "adapter_config.json").exists():
        return Served(name, model.name, model.revision, model.enable_thinking, package, made)
    return Served(name, str(package), enable_thinking=model.enable_thinking, made=made)


def _packaged(run: RunDir, name: str) -> Served:
    if not run.package.is_dir():
        raise ApiError(400, f"{name} has no package yet; its run has not ended.", param="model", code="model_not_ready")
    return packaged(run, run.package, name)


def _mapped(meaning: str) -> Start:
    path = Path(meaning).absolute()
    if RunDir(path).config.exists():
        return _trained(RunDir(path), meaning)
    return Start(str(path) if path.is_dir() else meaning)


def _trained(run: RunDir, name: str) -> Start:
    """Return the best weights of a run, to go on from."""
    trained = [entry for entry in entries(run.events) if entry["event"] == "trained"]
    if not trained:
        raise ApiError(400, f"{name} has not finished training.", param="model", code="model_not_ready")
    checkpoint = run.checkpoints / f"{int(str(trained[-1]['best_step'])):06d}"
    return Start(load([run.config]).model.name, str(checkpoint))
