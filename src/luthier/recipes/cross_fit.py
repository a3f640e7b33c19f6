"""Few rows: every row is answered by a model that never saw it, and the model that ships is trained on all of them.

A test part of a hundred rows can tell little. So below some 1,500 rows whole clusters are dealt into folds, one model is
trained for each fold on the others, and it answers its fold; the verdict rests on all rows. Rows that are held out for
validation choose the weights in every fold and of the model that ships, and are answered like all others, by the one fold
model that did not know them.

folds/<number>/   a run of each fold, see nested.py; `test` is its fold
"""

import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luthier.core.errors import SettingsError
from luthier.core.journal import entries
from luthier.core.rundir import RunDir, write_atomically, write_json
from luthier.core.types import PARTS, Grader, JsonObject, Part, Row
from luthier.data.folds import deal_folds
from luthier.data.store import RowWriter, count_stored, read_stored
from luthier.recipes.decode import forget_other_decoding
from luthier.recipes.job import Job
from luthier.recipes.nested import answered, nested, planned, trained
from luthier.recipes.opening import Opening, open_test, unsealed
from luthier.recipes.plan import duration, plan_stage
from luthier.recipes.prepare import ORIGINS
from luthier.recipes.probing import Section
from luthier.verdict.answers import AnswerRow, write_answers
from luthier.verdict.questions import Question, questions

FOLDS = 5
MOST_ROWS = 1_500
_FEWEST_CLUSTERS = 4 * FOLDS
_DEALT = "folds_dealt"


def plan_with_folds(job: Job) -> None:
    """Deal the rows into folds where they are few, plan the training of the model that ships, and say what the folds cost."""
    if job.run.is_whole_road():
        _refuse_seeds_of_text(job)
        deal_into_folds(job)
    plan_stage(job)
    trainings = (job.settings.compare.folds or job.settings.compare.seeds - 1) if job.run.is_whole_road() else 0
    if trainings:
        each = float(str(job.plan["seconds"]))
        job.voice.say(
            f"beside it {trainings} trainings for the proof, about {duration(trainings * each)} in all; "
            f"leave them out with: --set compare.{'folds=0' if job.settings.compare.folds else 'seeds=1'}"
        )


@dataclass(frozen=True)
class Gathered:
    """Every arm's answers in one order, and how they were come by.

    `sections` say which rows were answered by models of which run; `folds_R` is the fold of each row, and `cross_fit` what
    `verdict.json` says of the folds; both are None where there is a test part.
    """

    grader: Grader
    opening: Opening
    rows: Mapping[str, Sequence[AnswerRow]]
    sections: Sequence[Section]
    folds_R: np.ndarray | None = None
    cross_fit: JsonObject | None = None


def cross_fitted(job: Job, resolve_grading: Callable[[Job, Sequence[Question]], Grader]) -> Gathered:
    """Train a model for each fold, let all arms answer the fold, and put the answers of all folds together."""
    asked = questions(_dealt_rows(job))
    grader, arms = resolve_grading(job, asked), job.settings.compare.arms
    opening = open_test(job, job.grader_name, [question.row for question in asked])
    forget_other_decoding(job)
    rows: dict[str, list[AnswerRow]] = {name: [] for name in arms}
    folds: list[Section] = []
    for number, inner in enumerate(_fold_jobs(job), start=1):
        job.voice.say(f"fold {number} of {job.settings.compare.folds}")
        with inner.run.held():
            planned(inner)
            trained(inner)
            broken = unsealed(inner, inner.rows("test"))
            of_fold = answered(inner, arms)
        opening = replace(opening, unsealed=opening.unsealed or (f"in fold {number}, {broken}" if broken else ""))
        start = len(rows[arms[0]])
        for name in arms:
            rows[name] += of_fold[name]
        folds.append(Section(np.arange(start, len(rows[arms[0]])), inner))
        if number == 1:
            _say_what_fold_one_says(job, inner)
    for name in arms:
        write_answers(job.run.arm_answers(name), rows[name], job.grader_name)
    folds_R = np.repeat(np.arange(1, len(folds) + 1), [len(section.places) for section in folds])
    return Gathered(grader, opening, rows, folds, folds_R, _entry(rows, folds))


def _fold_jobs(job: Job) -> Iterator[Job]:
    """Yield the job of the run of each fold, with the settings that the plan of `job` chose for all rows."""
    dealt = _dealt(job)
    assert dealt is not None and job.settings.compare.folds
    for fold in range(1, job.settings.compare.folds + 1):
        values: JsonObject = {
            "seed": job.settings.seed + fold, "train.steps": dealt["steps"], "train.validate_every": dealt["validate_every"],
            "compare.latency_rows": job.settings.compare.latency_rows if fold == 1 else 0,
            "compare.endpoint.requests": max(1, job.settings.compare.endpoint.requests // job.settings.compare.folds),
        }  # fmt: skip
        yield nested(job, Path("folds") / str(fold), values, lambda run, fold=fold: _fill(job, run, fold))


def _dealt_rows(job: Job) -> list[Row]:
    """Return the rows that lie in a fold: those that every arm answers."""
    table = pq.read_table(job.run.assignment, columns=["id", "fold"]).to_pydict()
    fold_of = dict(zip(table["id"], table["fold"], strict=True))
    return [row for part in PARTS for row in job.rendered(part).rows if fold_of.get(row.id)]


def _say_what_fold_one_says(job: Job, inner: Job) -> None:
    """Enter how arms ask and how fast they are, as the first fold found it."""
    known = [{**entry, "time": ""} for entry in entries(job.run.events)]
    for entry in entries(inner.run.events):
        facts = {key: value for key, value in entry.items() if key not in ("time", "event")}
        if entry["event"] in ("arm_described", "arm_timed") and {**entry, "time": ""} not in known:
            job.run.event(str(entry["event"]), **facts)


def _entry(rows: Mapping[str, Sequence[AnswerRow]], folds: Sequence[Section]) -> JsonObject:
    """Return what `verdict.json` says of the folds; `trained_rows` and `scores` are those of each fold in turn."""
    scores: JsonObject = {
        name: [float(np.mean([of_arm[place].score for place in section.places])) for section in folds]
        for name, of_arm in rows.items()
    }
    return {
        "folds": len(folds), "rows": len(next(iter(rows.values()))),
        "trained_rows": [count_stored(section.job.run.part("train")) for section in folds], "scores": scores,
        "seconds": round(sum(float(str(section.job.training["seconds"])) for section in folds), 2),
    }  # fmt: skip


def deal_into_folds(job: Job) -> None:
    """Choose `compare.folds` where it is open; where there are folds, let the rows of the test part be trained too."""
    if _dealt(job) is not None:
        return
    table = pq.read_table(job.run.assignment)
    columns = table.select(["origin", "part", "cluster"]).to_pydict()
    whose = list(zip(columns["origin"], columns["part"], strict=True))
    rows = [place for place, (origin, part) in enumerate(whose) if origin == "data" and part is not None]
    clusters = [int(columns["cluster"][place]) for place in rows]
    why_not = _why_not(job)
    if job.settings.compare.folds is None:
        job.resolve({"compare.folds": 0 if why_not else fitting_folds(len(rows), len(set(clusters)))})
    folds = job.settings.compare.folds
    if not folds:
        return
    if folds == 1 or why_not or folds > len(set(clusters)):
        reason = (
            why_not or f"the rows lie in {len(set(clusters)):,} clusters, and folds are 2 or more of whole clusters"
        )
        raise SettingsError(f"compare.folds is {folds}, but {reason}; leave it open, or set it to 0.")
    dealt = deal_folds(clusters, folds, job.settings.seed)
    _let_all_be_trained(job, table, dict(zip(rows, dealt, strict=True)))
    train = job.settings.train
    job.run.event(_DEALT, folds=folds, rows=len(rows), steps=train.steps, validate_every=train.validate_every)
    job.voice.say(
        f"{len(rows):,} rows are few: {folds} models, each trained without a fold of them, answer the rows that they have not seen; "
        "the model that ships is trained on all"
    )


def fitting_folds(rows: int, clusters: int) -> int:
    """Return how many folds fit these rows where nobody said it; 0 where a test part does, or too few clusters would fill them."""
    return FOLDS if rows < MOST_ROWS and clusters >= _FEWEST_CLUSTERS else 0


def _refuse_seeds_of_text(job: Job) -> None:
    if job.settings.compare.seeds > 1 and job.settings.train.objective == "text":
        raise SettingsError(
            "compare.seeds: plain text is judged by bits per byte under one seed; leave it out, and compare runs with --against."
        )


def _why_not(job: Job) -> str:
    """Say what folds do not go with."""
    settings = job.settings
    if settings.data.test is not None:
        return "there is a test file (data.test), whose rows are the test"
    if settings.train.objective == "text":
        return "plain text has no rows to answer (train.objective)"
    if settings.compare.seeds > 1:
        return "the training is repeated under several seeds (compare.seeds)"
    if any(entry["event"] == "looking_ahead" for entry in entries(job.run.events)):
        return "the look ahead has opened a test part already"
    return ""


def _let_all_be_trained(job: Job, table: pa.Table, fold_at: dict[int, int]) -> None:
    """Write the parts anew, with the rows of the test part in training, and the fold of each row beside its cluster."""
    parts: list[Part | None] = ["train" if part == "test" else part for part in table["part"].to_pylist()]
    _write_parts(job, job.run, parts)
    job.forget_rendered()
    folds = pa.array([fold_at.get(place) for place in range(len(parts))], pa.int64())
    changed = _with_parts(table.select([name for name in table.column_names if name != "fold"]), parts)
    certificate: JsonObject = json.loads(job.run.certificate.read_text(encoding="utf-8"))
    sizes: list[int] = [list(fold_at.values()).count(fold) for fold in sorted(set(fold_at.values()))]
    rows: JsonObject = {part: parts.count(part) for part in PARTS}
    write_json(job.run.certificate, {**certificate, "rows": rows, "folds": [*sizes]})
    _write_assignment(job.run, changed.append_column("fold", folds))


def _fill(job: Job, run: RunDir, fold: int) -> None:
    """Write the parts of a fold: it is the test, and all other rows are what they are in the run around."""
    table = pq.read_table(job.run.assignment)
    parts: list[Part | None] = [
        "test" if of_row == fold else part
        for of_row, part in zip(table["fold"].to_pylist(), table["part"].to_pylist(), strict=True)
    ]
    _write_parts(job, run, parts)
    _write_assignment(run, _with_parts(table, parts))
    shutil.copyfile(job.run.findings, run.findings)


def _write_parts(job: Job, run: RunDir, parts: Sequence[Part | None]) -> None:
    """Write the rows that were read into these parts."""
    stored = (row for origin in ORIGINS for row in read_stored(job.run.read_rows(origin)))
    writers = {part: RowWriter(run.part(part)) for part in PARTS}
    for row, part in zip(stored, parts, strict=True):
        if part is not None:
            writers[part].write(row)
    for writer in writers.values():
        writer.close()


def _with_parts(table: pa.Table, parts: Sequence[Part | None]) -> pa.Table:
    return table.set_column(table.column_names.index("part"), "part", pa.array(parts, pa.string()))


def _write_assignment(run: RunDir, table: pa.Table) -> None:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    write_atomically(run.assignment, stream.getvalue())


def _dealt(job: Job) -> JsonObject | None:
    return next((entry for entry in entries(job.run.events) if entry["event"] == _DEALT), None)
