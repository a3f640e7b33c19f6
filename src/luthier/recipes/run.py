"""The main road: raw examples in; a tuned model and the measured proof out.

Read this to know the product. Every stage leaves its result in the run folder, is skipped when it
is there already, and can be stopped at any instant; `resume` walks the same road again.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from luthier.compat.allocation import bound_kernel_cache
from luthier.compat.rust_errors import system_errors
from luthier.config.load import dump, load
from luthier.config.settings import Settings
from luthier.core.disk import room_for
from luthier.core.errors import DataError, RunFolderError, UserError
from luthier.core.rundir import RunDir, create, open_run, write_atomically, write_json
from luthier.recipes.arm_settings import with_its_arm
from luthier.recipes.compare import compare_stage
from luthier.recipes.cross_fit import plan_with_folds
from luthier.recipes.decode import refuse_form_of_other_rows
from luthier.recipes.environment import environment
from luthier.recipes.export import export_stage
from luthier.recipes.general import general_rows
from luthier.recipes.job import Job
from luthier.recipes.measure import ModelRuler, rendered_lengths
from luthier.recipes.preflight import preflight
from luthier.recipes.prepare import Source, check_stage, name_of, read_stage, split_stage
from luthier.recipes.report import report_stage
from luthier.recipes.together import dismiss, follow
from luthier.recipes.train import train_stage
from luthier.recipes.voice import Voice

Stage = tuple[str, Callable[[Job], None]]


def run(source: Source | None, settings: Settings, out: Path | None, voice: Voice) -> RunDir:
    """Walk the whole road in a new run folder; `source` overrides `data.path` or holds rows from Python."""
    return follow() or _walk_new(_new_job(source, settings, out, voice), _whole_road(source))


def train(settings: Settings, out: Path | None, voice: Voice) -> RunDir:
    """Walk the road without the comparison: for pretraining, and where the proof is made elsewhere."""
    return follow() or _walk_new(_new_job(None, settings, out, voice), _road_to_weights())


def prepared(source: Source | None, settings: Settings, out: Path | None, voice: Voice) -> Job:
    """Read, split and check in a new run folder, up to where a model is needed; `resume` goes on from there, to the end."""
    job = _new_job(source, settings, out, voice)
    road = _whole_road(source)
    job.run.event("started", road=[name for name, _ in road])
    _walk_new(job, road[: [name for name, _ in road].index("plan")])
    return job


def resume(path: Path, voice: Voice) -> RunDir:
    """Go on at the first stage that did not finish; raise RunFolderError when there is nothing to go on with."""
    if (followed := follow()) is not None:
        return followed
    folder = open_run(path)
    job = Job(folder, load([folder.config]), voice)
    if not folder.done("read") and job.settings.data.path is None:
        raise RunFolderError(
            f"{path} was given its rows by a Python program and was stopped before they were stored, so they cannot be read "
            "again. Start a new run with the same rows."
        )
    road = _whole_road(None) if job.run.is_whole_road() else _road_to_weights()
    if all(folder.done(name) for name, _ in road):
        voice.say(f"{path} is finished; nothing to do.")
        dismiss(folder)
        return folder
    return _walk(job, road)


def _new_job(source: Source | None, settings: Settings, out: Path | None, voice: Voice) -> Job:
    if source is None and settings.data.path is None:
        raise DataError("there is no data: give a file, folder or glob (data.path).")
    if source is not None:  # rows from Python have no path to be read from again
        path = str(source) if isinstance(source, str | Path) else None
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"path": path})})
    settings = with_its_arm(settings)
    preflight(settings, rows_given=source is not None)
    folder = create(out, name_of(settings.data.path if source is None else source))
    write_atomically(folder.config, dump(settings).encode())
    return Job(folder, settings, voice)


def _whole_road(source: Source | None) -> list[Stage]:
    return [
        ("read", lambda job: read_stage(job, source)),
        ("split", split_stage),
        ("check", lambda job: check_stage(job, ModelRuler(job, rendered_lengths(job)))),
        ("plan", _plan),
        ("train", train_stage),
        ("compare", compare_stage),
        ("export", export_stage),
        ("report", report_stage),
    ]


def _plan(job: Job) -> None:
    general_rows(job)
    if job.run.is_whole_road():
        refuse_form_of_other_rows(job)
    plan_with_folds(job)


def _road_to_weights() -> list[Stage]:
    return [stage for stage in _whole_road(None) if stage[0] not in ("compare", "report")]


def _walk_new(job: Job, road: list[Stage]) -> RunDir:
    """Walk the road; data that cannot be used leave an empty folder, so that the same --out can be tried again."""
    try:
        return _walk(job, road)
    except UserError:
        if not job.run.done("read"):
            job.run.empty()
        raise


def _walk(job: Job, road: list[Stage]) -> RunDir:
    bound_kernel_cache()
    with job.run.held():
        if job.settings.threads is not None:
            torch.set_num_threads(job.settings.threads)
        write_json(job.run.env, environment())
        job.run.event("started", road=[name for name, _ in road])
        for name, stage in road:
            if not job.run.done(name):
                with room_for(f"what the stage {name!r} makes", job.run.path), system_errors():
                    stage(job)
                job.run.mark_done(name)
    dismiss(job.run)
    return job.run
