"""From a fine-tuning request to the settings of a run, and back: what was chosen, as the API tells it."""

import json
from pathlib import Path

from luthier.config.load import load, parse, with_values
from luthier.config.serving import ServeSettings
from luthier.config.settings import Settings
from luthier.core.errors import RunFolderError
from luthier.core.hardware import usable_cores
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject, JsonValue
from luthier.jobs.records import JobRecord
from luthier.jobs.submit import TRAINING, VALIDATION
from luthier.recipes.training_file import FORMAT

_AUTO = "auto"
_KEPT = 4


def job_settings(job: JobRecord, serving: ServeSettings, inputs: Path, num_rows: int) -> Settings:
    """Return the settings of the run that a job asks for, on top of those that every job starts from.

    `inputs` is the folder with the job's own names for its files, `num_rows` how many rows it trains on.
    """
    asked = job.hyperparameters
    values: JsonObject = {
        "seed": job.seed, "threads": serving.job.threads or threads(serving), "model.name": job.base,
        "data.path": str(inputs / TRAINING), "data.format": FORMAT, "data.max_bad_share": 0.0,
        "data.test": None, "split.test_share": 0.0, "train.checkpoint_epochs": True,
        "train.keep": max(_KEPT, serving.job.train.keep),
    }  # fmt: skip
    if job.validation_file is not None:
        values["data.validation"] = str(inputs / VALIDATION)
    elif _given(asked, "n_epochs") is not None or num_rows < serving.validation_rows:
        values["split.validation_share"] = 0.0
    settings = with_values(serving.job, values | as_settings(asked))
    return settings if job.warm_from is None else _continued(settings, Path(job.warm_from))


def as_settings(hyperparameters: JsonObject) -> JsonObject:
    """Return what OpenAI's hyperparameters mean, by dotted keys; what is absent or `auto` is left to the plan."""
    values: JsonObject = {}
    if (epochs := _given(hyperparameters, "n_epochs")) is not None:
        values |= {"train.epochs": epochs, "train.steps": None, "train.patience": 0}
    if (rows := _given(hyperparameters, "batch_size")) is not None:
        values |= {"train.batch_rows": rows, "train.batch_tokens": None}
    if (multiplier := _given(hyperparameters, "learning_rate_multiplier")) is not None:
        values["train.lr_multiplier"] = multiplier
    return values


def threads(serving: ServeSettings) -> int:
    """How many cores one training uses."""
    return serving.threads or max(1, (usable_cores() - 1) // serving.workers)


def chosen_hyperparameters(run: RunDir, job: JobRecord) -> JsonObject:
    """Return what a planned run will do, in the API's words: whole epochs, rows a step, the rate against the plan's."""
    plan, settings = _plan(run), load([run.config])
    steps, per_epoch = int(str(plan["steps"])), int(str(plan["steps_per_epoch"]))
    return {
        "n_epochs": _given(job.hyperparameters, "n_epochs") or max(1, round(steps / per_epoch)),
        "batch_size": _given(job.hyperparameters, "batch_size") or max(1, round(_num_trained(run) / per_epoch)),
        "learning_rate_multiplier": settings.train.lr_multiplier or 1.0,
    }  # fmt: skip


def steps_per_epoch(run: RunDir) -> int:
    """How many steps see every row once, by the plan."""
    return int(str(_plan(run)["steps_per_epoch"]))


def planned_seconds(run: RunDir) -> float:
    """How long training takes, by the plan."""
    return float(str(_plan(run)["seconds"]))


def _num_trained(run: RunDir) -> int:
    rows = json.loads(run.certificate.read_text(encoding="utf-8"))["rows"]
    return int(rows["train"])


def _plan(run: RunDir) -> JsonObject:
    return json.loads(run.plan.read_text(encoding="utf-8"))


def _given(hyperparameters: JsonObject, name: str) -> JsonValue:
    value = hyperparameters.get(name, _AUTO)
    return None if value == _AUTO else value


def _continued(settings: Settings, checkpoint: Path) -> Settings:
    """Start from a checkpoint of another job: the same layers are trained, so that its weights fit."""
    before = _settings_of(checkpoint)
    tree: JsonObject = settings.model_dump(mode="json", by_alias=True)
    earlier: JsonObject = before.model_dump(mode="json", by_alias=True)
    train, train_before = tree["train"], earlier["train"]
    assert isinstance(train, dict) and isinstance(train_before, dict)
    train |= {"method": train_before["method"], "lora": train_before["lora"], "warm_from": str(checkpoint)}
    return parse(tree | {"model": earlier["model"]})


def _settings_of(checkpoint: Path) -> Settings:
    """Find the settings that made a checkpoint: in its run folder, or in the newest attempt of its job."""
    places = [checkpoint.parents[1] / "config.yaml", *sorted(checkpoint.parents[1].glob("[0-9]*/run/config.yaml"))]
    found = [place for place in places if place.exists()]
    if not found:
        raise RunFolderError(
            f"the settings that made the checkpoint {checkpoint} are gone, so nothing can go on from it."
        )
    return load([found[-1]])
