"""The verdict: every arm on the same sealed rows, with intervals, differences and one sentence."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from luthier.config.load import load
from luthier.core import parts
from luthier.core.errors import DataError, RunFolderError, SettingsError
from luthier.core.rundir import RunDir, open_run, write_json
from luthier.core.types import Grader, JsonObject
from luthier.data.ledger import read_ledger, summary_of
from luthier.data.store import count_stored
from luthier.generate.engine import MOST_ROWS
from luthier.graders.making.grading import destination
from luthier.graders.making.spec import grader_named, learned
from luthier.recipes import likelihood
from luthier.recipes.answer import Answering, answer_budget
from luthier.recipes.arm_settings import changed
from luthier.recipes.cross_fit import Gathered, cross_fitted
from luthier.recipes.decode import forget_other_decoding, refuse_form_of_other_rows
from luthier.recipes.differences import clusters_of
from luthier.recipes.export import write_card
from luthier.recipes.forgetting import forgetting
from luthier.recipes.grading import grade_also
from luthier.recipes.held import holding
from luthier.recipes.job import Job
from luthier.recipes.judging import judged
from luthier.recipes.opening import open_test
from luthier.recipes.pricing import priced
from luthier.recipes.probing import Section, probed
from luthier.recipes.repeated import repeated
from luthier.recipes.report import report_stage
from luthier.recipes.retrieved import caution
from luthier.recipes.voice import Voice
from luthier.verdict.answers import answer_rows, arm_summary, read_answers
from luthier.verdict.calibration import calibration
from luthier.verdict.choose import choose_grader
from luthier.verdict.figures import number, objects, scale_of
from luthier.verdict.forgotten import forgotten
from luthier.verdict.questions import Question, questions
from luthier.verdict.stats import Measure, Sample


def compare(path: Path, voice: Voice, changes: JsonObject | None = None, assignments: Sequence[str] = ()) -> RunDir:
    """Make or remake the verdict of a trained run; answers that lie in the folder are not made again.

    `changes` are settings under `compare` by their dotted keys, None where nothing changes, and `assignments` such as
    `compare.examples=8`; they are written back to the run's settings.
    """
    folder = open_run(path)
    if not folder.done("train"):
        raise RunFolderError(f"{path} has not finished training; go on with: luthier resume {path}")
    settings = changed(load([folder.config]), changes or {}, assignments)
    with folder.held():
        job = Job(folder, settings, voice)
        if changes or assignments:
            refuse_form_of_other_rows(job)
            job.resolve({})
        compare_stage(job)
        if folder.done("export"):
            write_card(job)
        if folder.done("report"):
            report_stage(job)
    return folder


def compare_stage(job: Job) -> None:
    """Let every arm answer, grade, and write verdict.json."""
    if job.settings.train.objective == "text":
        verdict = likelihood.verdict(job)
    else:
        verdict = _answered(job)
    verdict = _with_facts(job, verdict)
    write_json(job.run.verdict, verdict)
    job.voice.say(str(verdict["because"]))


def _answered(job: Job) -> JsonObject:
    found = cross_fitted(job, resolve_grading) if job.settings.compare.folds else _of_the_test_part(job)
    rows, settings = found.rows, job.settings
    clusters = clusters_of(job, [row.id for row in next(iter(rows.values()))])
    arms: JsonObject = {name: arm_summary(rows[name], found.grader, clusters, settings, found.folds_R) for name in rows}
    grade_also(job, arms, rows, clusters)
    scores = {name: np.array([row.score for row in rows[name]]) for name in rows}
    measure = Measure(margin=settings.compare.margin)
    sample = Sample(clusters, settings.compare.resamples, settings.seed, measure, folds_R=found.folds_R)
    scale = scale_of(job.grader_name, lower_is_better=False)
    seeds = None if found.opening.unsealed else repeated(job, arms, scores, sample)
    gap = Answering(job, found.grader).training_gap()
    held = holding(found.sections[0].job, found.grader)
    return {
        "grader": job.grader_name, "arms": arms, **judged(job, arms, scores, sample, scale, found.opening, seeds), "train_score": gap,
        "cross_fit": found.cross_fit, "seeds": seeds, **probed(rows, scores, sample, found.sections),
        "calibration": calibration(rows["tuned"]) if "tuned" in rows else None, "constraint": held,
    }  # fmt: skip


def _of_the_test_part(job: Job) -> Gathered:
    """Let every arm answer the sealed test part."""
    asked = sealed_questions(job)
    grader = resolve_grading(job, asked)
    opening = open_test(job, job.grader_name)
    forget_other_decoding(job)
    answering = Answering(job, grader)
    for name in job.settings.compare.arms:
        answering.arm(name, asked)
    rows = {name: answer_rows(read_answers(job.run.arm_answers(name))) for name in job.settings.compare.arms}
    return Gathered(grader, opening, rows, [Section(np.arange(len(asked)), job)])


def sealed_questions(job: Job) -> list[Question]:
    """Return what is asked of every arm; raise DataError where the test part asks nothing."""
    asked = questions(job.rendered("test").rows)
    if not asked:
        raise DataError(
            "no test row is a conversation with an answer, so there is nothing to compare; give a test file with --test."
        )
    return asked


def resolve_grading(job: Job, asked: Sequence[Question]) -> Grader:
    """Choose grader and answer budget where they are open, and say why."""
    settings = job.settings
    if settings.compare.grader is None:
        name, reason = choose_grader(
            [question.wanted for question in questions(job.rows("train"))] or [q.wanted for q in asked]
        )
        job.run.event("grader_chosen", grader=name, reason=reason)
        job.voice.say(f"grading with {name}: {reason}")
        job.resolve({"compare.grader": name})
    if settings.generate.batch_size is None:
        job.resolve({"generate.batch_size": MOST_ROWS})
    if settings.generate.max_new_tokens is None:
        job.resolve({"generate.max_new_tokens": max(1, answer_budget(job))})
        job.voice.say(
            f"answer budget {job.settings.generate.max_new_tokens} tokens, 1.25 times the longest training answer"
        )
    known = parts.names("luthier.verdict.arms")
    wrong = [name for name in settings.compare.arms if name not in known and ".py:" not in name]
    if wrong:
        raise SettingsError(f"compare.arms: there is no arm {wrong[0]!r}; there are {', '.join(known)}.")
    examples = [question.wanted for question in questions(job.rows("train"))]
    grader = learned(grader_named(job.grader_name), examples).grader
    if destination(grader):
        job.voice.say(
            f"the questions and the answers of every arm are sent to {destination(grader)}, which judges them"
        )
    return grader


def _with_facts(job: Job, verdict: JsonObject) -> JsonObject:
    """Add where the rows went, what was predicted and what was measured."""
    training = job.training
    measured = {
        key: training[key] for key in ("seconds", "memory_bytes", "tokens_per_second", "tokens", "steps", "best_step")
    }
    scale = scale_of(str(verdict["grader"]), bool(verdict.get("lower_is_better")))
    rows = count_stored(job.run.part("test")) or int(number(verdict["cross_fit"], "rows"))
    costs = priced(job, objects(verdict["arms"]), scale, rows)
    general = forgetting(job)
    said = [words for words in (caution(job.settings), forgotten(general)) if words]
    if said and verdict["outcome"] != "refused":
        verdict = {**verdict, "reasons": [*verdict["reasons"], *said]}  # type: ignore[misc]  # reasons are a list in every verdict
    return {
        "run": job.run.path.name, "model": job.folder.name, "data": summary_of(read_ledger(job.run.ledger)), **verdict,
        "forgetting": general, "costs": costs, "plan": job.plan, "measured": measured,
    }  # fmt: skip
