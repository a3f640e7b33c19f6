"""Which base model? A short training of each on the same few hundred rows, compared on validation rows.

OUT/rows/            the parts, as `luthier split` writes them; the test part stays closed
OUT/rows/few.jsonl   the training rows that every model learns from
OUT/<model>/         a run of each model up to its weights, and its answers to the validation rows
OUT/bases.json       scores, differences, cost, licence and the recommendation
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luthier.config.load import load, with_values
from luthier.config.settings import Settings
from luthier.core.errors import DataError, SettingsError
from luthier.core.hashing import generator
from luthier.core.rundir import fresh_path, open_run, write_atomically, write_json
from luthier.core.types import Grader, JsonObject, JsonValue
from luthier.models.license import license_of
from luthier.recipes import run as road
from luthier.recipes import split as parts
from luthier.recipes.answer import Answering
from luthier.recipes.begun import begin
from luthier.recipes.compare import resolve_grading
from luthier.recipes.differences import clusters_of
from luthier.recipes.fitting import shape
from luthier.recipes.job import Job
from luthier.recipes.prepare import name_of
from luthier.recipes.voice import Voice
from luthier.verdict.answers import AnswerRow, arm_summary
from luthier.verdict.bases import because, recommended
from luthier.verdict.cost import cost_of_arm
from luthier.verdict.questions import questions
from luthier.verdict.stats import Measure, Sample

RESULT = "bases.json"
_ON_VALIDATION = "tuned_on_validation"


def bases(models: Sequence[str], rows: int, settings: Settings, out: Path | None, voice: Voice) -> Path:
    """Train every model for a short time, compare them on the validation rows, and write `bases.json` in the folder returned."""
    if len(set(models)) < 2:
        raise SettingsError("name at least two different models to choose from: --model A --model B.")
    if settings.data.path is None:
        raise DataError("there is no data: give a file, folder or glob.")
    folder = fresh_path(f"{name_of(settings.data.path)}-bases") if out is None else out
    begin(folder, {"models": [*models], "rows": rows, "settings": settings.model_dump(mode="json", by_alias=True)})
    few = _few_rows(folder / "rows", rows, settings, voice)
    jobs = {
        name: _trained(folder / f"{number}-{Path(name).name}", few, name, settings, voice)
        for number, name in enumerate(dict.fromkeys(models), start=1)
    }
    result = _compared(jobs)
    write_json(folder / RESULT, {"bases": folder.name, **result})
    voice.say(f"{result['because']} {result['next']}")
    return folder


def _few_rows(folder: Path, most: int, settings: Settings, voice: Voice) -> Path:
    """Split the data, and draw the training rows that all models learn from."""
    few = folder / "few.jsonl"
    if few.exists():
        return few
    if not (folder / "certificate.json").exists():
        parts.split(None, settings, folder, voice)
    lines = (folder / "train.jsonl").read_bytes().splitlines(keepends=True)
    if not (folder / "validation.jsonl").stat().st_size:
        raise DataError(
            "no row was dealt to validation, so the models cannot be compared; raise split.validation_share."
        )
    drawn = generator(settings.seed, "bases").permutation(len(lines))[:most]
    write_atomically(few, b"".join(lines[place] for place in sorted(drawn.tolist())))
    return few


def _trained(path: Path, few: Path, model: str, settings: Settings, voice: Voice) -> Job:
    """Return the job of a model's finished training; one that was begun is gone on with."""
    voice.say(f"{model}:")
    if (path / "config.yaml").exists():
        road.resume(path, voice)
    else:
        values: JsonObject = {
            "model.name": model, "data.path": str(few), "data.validation": str(few.with_name("validation.jsonl")),
            "data.test": None, "split.test_share": 0.0,
        }  # fmt: skip
        road.train(with_values(settings, values), path, voice)
    run = open_run(path)
    return Job(run, load([run.config]), voice)


def _compared(jobs: Mapping[str, Job]) -> JsonObject:
    answered = {name: _answered(job) for name, job in jobs.items()}
    shared = set[str].intersection(*({row.id for row in one.rows} for one in answered.values()))
    if not shared:
        raise DataError("there is no validation row that every model can read; see the ledger of each run.")
    rows = {name: [row for row in one.rows if row.id in shared] for name, one in answered.items()}
    scores = {name: np.array([row.score for row in of_model]) for name, of_model in rows.items()}
    first = next(iter(jobs.values()))
    settings, clusters = first.settings, clusters_of(first, [row.id for row in next(iter(rows.values()))])
    entries = {name: _entry(one, rows[name], clusters) for name, one in answered.items()}
    sizes = {name: int(str(entry["weights"])) for name, entry in entries.items()}
    sample = Sample(clusters, settings.compare.resamples, settings.seed, Measure(margin=settings.compare.margin))
    found = recommended(scores, sizes, sample)
    num_rows = (len(questions(first.rows("train"))), len(clusters))
    models: dict[str, JsonValue] = {**entries}
    return {
        "grader": first.grader_name, "margin": settings.compare.margin, "trained_rows": num_rows[0], "validation_rows": num_rows[1],
        "models": models, **found.as_entries(), "because": because(found, scores, first.grader_name, num_rows),
        "next": f"Tune it on all rows: luthier run DATA --model {found.model}",
    }  # fmt: skip


@dataclass(frozen=True)
class _Answered:
    """A trained model with its graded answers to the validation rows, in the order of the rows."""

    job: Job
    grader: Grader
    rows: Sequence[AnswerRow]


def _answered(job: Job) -> _Answered:
    asked = questions(job.rendered("validation").rows)
    with job.run.held():
        grader = resolve_grading(job, asked)
        return _Answered(job, grader, Answering(job, grader).tuned(_ON_VALIDATION, asked))


def _entry(one: _Answered, rows: Sequence[AnswerRow], clusters: np.ndarray) -> JsonObject:
    job = one.job
    summary = arm_summary(rows, one.grader, clusters, job.settings)
    return {
        **summary, "weights": shape(job).num_weights, "training_seconds": job.training["seconds"], "steps": job.training["steps"],
        "memory_bytes": job.training["memory_bytes"], "cost": cost_of_arm(summary, len(rows), (), None),
        "license": license_of(job.folder), "run": str(job.run.path),
    }  # fmt: skip
