"""Is it worth tuning at all? Read, split and check the rows, let the untuned arms answer, and look ahead; nothing is trained.

The run folder is one that has not been trained yet: `luthier compare` goes on with it after a stop, and `luthier resume` tunes in it
and takes over the answers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from luthier.config.load import load, with_values
from luthier.config.settings import Settings
from luthier.core.errors import SettingsError
from luthier.core.hashing import generator
from luthier.core.journal import entries
from luthier.core.rundir import RunDir, open_run, write_json
from luthier.core.types import JsonObject
from luthier.data.learning_curve import Curve, learning_curve
from luthier.data.ledger import read_ledger, summary_of
from luthier.data.normal import normalized
from luthier.recipes.answer import Answering
from luthier.recipes.arm_settings import changed
from luthier.recipes.compare import resolve_grading, sealed_questions
from luthier.recipes.decode import forget_other_decoding
from luthier.recipes.differences import clusters_of
from luthier.recipes.grading import grade_also
from luthier.recipes.job import Job
from luthier.recipes.opening import enter_look
from luthier.recipes.plan import resolve_type, write_ledger
from luthier.recipes.prepare import Source
from luthier.recipes.run import prepared
from luthier.recipes.voice import Voice
from luthier.verdict.answers import answer_rows, arm_summary, read_answers
from luthier.verdict.figures import scale_of
from luthier.verdict.outlook import labels_of, outlook
from luthier.verdict.questions import Question, questions
from luthier.verdict.rules import TRAINED

_UNTUNED = ("classical", "zero_shot", "prompt", "few_shot")
_MOST_CURVE_ROWS = 8_000


def prospect(source: Source | None, settings: Settings, out: Path | None, voice: Voice) -> RunDir:
    """Answer the test rows with the untuned arms in a new run folder and write `outlook.json`."""
    if settings.compare.folds:
        raise SettingsError(
            "compare.folds: a look ahead opens a test part, and folds have none; leave it out, or start with: luthier run"
        )
    job = prepared(source, _with_untuned(settings), out, voice)
    job.run.event("looking_ahead")
    return _looked_ahead(job)


def is_outlook(path: Path) -> bool:
    """Tell whether a folder is a run that `prospect` has begun and that nobody has trained since."""
    run = RunDir(path)
    return any(entry["event"] == "looking_ahead" for entry in entries(run.events)) and not run.done("train")


def go_on(path: Path, changes: JsonObject, assignments: Sequence[str], voice: Voice) -> RunDir:
    """Look ahead again in the folder that `prospect` has begun; what was answered is not asked again."""
    folder = open_run(path)
    return _looked_ahead(Job(folder, changed(load([folder.config]), changes, assignments), voice))


def _looked_ahead(job: Job) -> RunDir:
    with job.run.held():
        resolve_type(job)
        write_ledger(job)
        asked = sealed_questions(job)
        grader = resolve_grading(job, asked)
        untuned = [name for name in job.settings.compare.arms if name not in TRAINED]
        enter_look(job, job.rows("test"))
        forget_other_decoding(job)
        answering = Answering(job, grader)
        for name in untuned:
            answering.arm(name, asked)
        clusters = clusters_of(job, [question.row.id for question in asked])
        rows = {name: answer_rows(read_answers(job.run.arm_answers(name))) for name in untuned}
        arms: JsonObject = {name: arm_summary(rows[name], grader, clusters, job.settings) for name in untuned}
        grade_also(job, arms, rows, clusters)
        _write(job, arms)
    return job.run


def curve_of(job: Job) -> tuple[Curve | None, str]:
    """Return how a quick model learns from the training rows, and which field of JSON answers; None where it cannot."""
    asked: Sequence[Question] = questions(job.rows("train"))
    order = generator(job.settings.seed, "outlook").permutation(len(asked))[:_MOST_CURVE_ROWS]
    drawn = [asked[place] for place in np.sort(order).tolist()]
    learned = labels_of([question.wanted.strip() for question in drawn])
    if learned is None:
        return None, ""
    clusters = clusters_of(job, [question.row.id for question in drawn])
    texts = [normalized(question.text) for question in drawn]
    return learning_curve(texts, learned.labels, clusters.tolist(), job.settings.seed), learned.field


def _with_untuned(settings: Settings) -> Settings:
    """Choose the arms that answer now, unless they were named, and beside them the tuned one that a later run asks."""
    given = {"retrieval": settings.compare.knowledge, "endpoint": settings.compare.endpoint.url}
    arms = [*_UNTUNED, *(arm for arm, needed in given.items() if needed)]
    if "arms" in settings.compare.model_fields_set:
        arms = [*settings.compare.arms]
    trained = [] if {*TRAINED} & {*arms} else ["tuned"]
    return with_values(settings, {"compare.arms": [*arms, *trained], "compare.folds": 0})


def _write(job: Job, arms: JsonObject) -> None:
    curve, field = curve_of(job)
    scale = scale_of(job.grader_name, lower_is_better=False)
    found = outlook(arms, curve, scale, job.settings.compare.margin, field)
    forecast: JsonObject | None = None
    if curve is not None:
        forecast = {
            "field": field,
            "rows": [*curve.rows],
            "right": [*curve.right],
            "after_doubling": curve.after_doubling,
        }
    result: JsonObject = {
        "run": job.run.path.name, "model": job.folder.name, "data": summary_of(read_ledger(job.run.ledger)),
        "grader": job.grader_name, "arms": arms, "differences": [], "forecast": forecast,
        **found.as_entries(), "next": found.next.replace("RUN", str(job.run.path)),
    }  # fmt: skip
    write_json(job.run.outlook, result)
    job.voice.say(f"{found.because} {result['next']}")
