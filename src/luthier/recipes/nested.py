"""Runs inside a run: the same recipe trained on other parts or under another seed, whose answers the run around them gathers.

A nested run is a whole run folder with parts, plan, checkpoints and answers of its own, so whatever stops it costs no more
than it would cost a run by itself, and what is finished is not made again.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from luthier.config.load import dump, load, with_values
from luthier.core.rundir import RunDir, write_atomically
from luthier.core.types import JsonObject
from luthier.graders.making.spec import grader_named, learned
from luthier.recipes.answer import Answering
from luthier.recipes.decode import forget_other_decoding
from luthier.recipes.job import Job
from luthier.recipes.plan import plan_stage
from luthier.recipes.train import train_stage
from luthier.recipes.voice import Voice
from luthier.verdict.answers import AnswerRow, answer_rows, read_answers
from luthier.verdict.questions import questions

_GIVEN = ("read", "split", "check")
# What belongs to the run around: its own verdict, and what is measured of its own weights.
_OF_THE_RUN_AROUND: JsonObject = {"compare.folds": 0, "compare.seeds": 1, "compare.train_rows": 0}


def nested(job: Job, place: Path, values: JsonObject, fill: Callable[[RunDir], None]) -> Job:
    """Return the job of the run nested at `place` below the run of `job`.

    It has the settings of `job`, with `values` by their dotted keys; what its own plan resolves stays. `fill` writes
    the parts and what else the stages before the plan leave, where that has not happened yet.
    """
    run = RunDir(job.run.path / place)
    if not run.done(_GIVEN[-1]):
        for folder in (run.path, run.data, run.checkpoints, run.answers):
            folder.mkdir(parents=True, exist_ok=True)
        fill(run)
        if job.run.general("replay").exists():
            shutil.copyfile(job.run.general("replay"), run.general("replay"))
        settings = with_values(job.settings, {**_OF_THE_RUN_AROUND, **values})
        write_atomically(run.config, dump(settings).encode())
        for stage in _GIVEN:
            run.mark_done(stage)
    settings = load([run.config])
    if run.done("train"):  # what arms there are and how they answer may still change
        of_arms = {"compare": job.settings.compare, "generate": job.settings.generate}
        again = {key: value for key, value in values.items() if key.startswith("compare.")}
        settings = with_values(settings.model_copy(update=of_arms), {**_OF_THE_RUN_AROUND, **again})
        write_atomically(run.config, dump(settings).encode())
    return Job(run, settings, _quiet_beside(job.voice))


def planned(inner: Job) -> None:
    """Plan a nested run, where that is not done."""
    _stage(inner, "plan", plan_stage)


def trained(inner: Job) -> None:
    """Train a nested run, from where it was stopped; nothing where it is trained."""
    _stage(inner, "train", train_stage)


def answered(inner: Job, arms: Sequence[str]) -> dict[str, list[AnswerRow]]:
    """Return the graded answers of arms to the test part of a trained nested run; what was answered is not asked again."""
    asked = questions(inner.rendered("test").rows)
    examples = [question.wanted for question in questions(inner.rows("train"))]
    forget_other_decoding(inner)
    answering = Answering(inner, learned(grader_named(inner.grader_name), examples).grader)
    for name in arms:
        answering.arm(name, asked)
    return {name: answer_rows(read_answers(inner.run.arm_answers(name))) for name in arms}


def _stage(inner: Job, name: str, stage: Callable[[Job], None]) -> None:
    if not inner.run.done(name):
        stage(inner)
        inner.run.mark_done(name)


def _quiet_beside(voice: Voice) -> Voice:
    """Speak on the same screen, into a log of one's own."""
    beside = Voice()
    beside.console = voice.console
    return beside
