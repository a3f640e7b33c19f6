"""Let the arms answer the sealed questions, row by row on disk, so that a stop loses one batch at most."""

import math
import time
from collections.abc import Sequence
from functools import cached_property

from luthier.core import parts
from luthier.core.hashing import generator
from luthier.core.journal import entries
from luthier.core.types import Completion, Grader, JsonObject
from luthier.recipes.answerers import Answerer, EndpointAnswerer, Line, ModelAnswerer, completion_line, journaled
from luthier.recipes.choosing import (
    Choice,
    choice_key,
    choose,
    read_choices,
    record_choice,
    validation_order,
)
from luthier.recipes.decode import words
from luthier.recipes.differences import clusters_of
from luthier.recipes.grading import graded, regrade
from luthier.recipes.job import Job
from luthier.recipes.material import material_of
from luthier.recipes.pricing import time_alone
from luthier.recipes.retrieved import asked_as
from luthier.verdict.answers import AnswerRow, answer_rows, arm_summary, graded_by, read_answers, write_answers
from luthier.verdict.asking import AS_THE_ROWS_STAND, Candidate, Material, PromptingArm, Weights
from luthier.verdict.questions import Question, questions

ARMS = "luthier.verdict.arms"
ON_TRAINING = "tuned_on_training"


class Answering:
    """The answers of one comparison: what the arms share is read once, and one model is in memory at a time."""

    def __init__(self, job: Job, grader: Grader) -> None:
        self._job, self._grader = job, grader
        self._loaded: tuple[Weights, Answerer] | None = None

    def arm(self, name: str, asked: Sequence[Question]) -> None:
        """Write `answers/<arm>.parquet`; questions answered in an earlier process are not asked again.

        An arm whose prompts would be others than those it answered to (other files, other settings) answers anew.
        """
        arm = parts.load(ARMS, name, "Arm")
        self._match_grader(name, learns=arm.weights is None)
        if arm.weights is None:
            if not self._job.run.arm_answers(name).exists():
                self._write(name, asked, self._answered_directly(arm, asked))
            return
        prompting: PromptingArm = arm()
        if prompting.weights == "endpoint":
            self._announce(name, asked)
        candidate = self._candidate(name, prompting)
        if not self._job.run.arm_answers(name).exists():
            answerer = self._answerer(prompting.weights)
            self._write(name, asked, self._journaled(name, answerer, candidate, asked))
            if prompting.weights != "endpoint":  # whose requests cost money, and are timed as they are sent
                time_alone(self._job, name, answerer, candidate, asked)

    def way_of_asking(self, name: str) -> Candidate | None:
        """Return how an arm asks, chosen on validation rows where that is open; None for an arm that asks no model."""
        arm = parts.load(ARMS, name, "Arm")
        return None if arm.weights is None else self._candidate(name, arm())

    def training_gap(self) -> JsonObject | None:
        """Ask the tuned model some of its own training rows: what it reaches above the test is memorized."""
        job, count = self._job, self._job.settings.compare.train_rows
        if not count or "tuned" not in job.settings.compare.arms:
            return None
        asked = questions(job.rendered("train").rows)
        chosen = generator(job.settings.seed, "train rows").permutation(len(asked))[:count]
        asked = [asked[place] for place in sorted(chosen)]
        rows = self.tuned(ON_TRAINING, asked)
        clusters = clusters_of(job, [question.row.id for question in asked])
        summary = arm_summary(rows, self._grader, clusters, job.settings)
        return {"score": summary["score"], "interval": summary["interval"], "rows": len(rows)}

    def tuned(self, name: str, asked: Sequence[Question]) -> list[AnswerRow]:
        """Ask the tuned model questions that are not the test; the answers are kept under this name."""
        return self.kept(name, "tuned", AS_THE_ROWS_STAND, asked)

    def kept(self, name: str, weights: Weights, candidate: Candidate, asked: Sequence[Question]) -> list[AnswerRow]:
        """Ask a model questions that are not the test, in one way of asking; the answers are kept under this name."""
        path = self._job.run.arm_answers(name)
        if path.exists() and [row.id for row in answer_rows(read_answers(path))] != [one.row.id for one in asked]:
            path.unlink()
        self._match_grader(name, learns=False)
        if not path.exists():
            self._write(name, asked, self._journaled(name, self._answerer(weights), candidate, asked))
        return answer_rows(read_answers(path))

    def _match_grader(self, name: str, learns: bool) -> None:
        """Grade answers anew that another grader graded; an arm that `learns` for its grader answers anew as well."""
        path, grader = self._job.run.arm_answers(name), self._job.grader_name
        if learns and path.exists() and graded_by(path) not in (None, grader):
            path.unlink()
        regrade(path, self._grader, grader)

    @cached_property
    def _material(self) -> Material:
        return material_of(self._job)

    @cached_property
    def _validation(self) -> list[Question]:
        asked = questions(self._job.rendered("validation").rows)
        return validation_order(asked, self._job.settings.compare.choosing_rows, self._job.settings.seed)

    def _candidate(self, name: str, arm: PromptingArm) -> Candidate:
        """Return the arm's way of asking: its only one, the one chosen before, or the best on validation rows."""
        candidates = arm.candidates(self._material)
        if candidates == [AS_THE_ROWS_STAND]:
            self._describe(name, arm, arm.description)
            return AS_THE_ROWS_STAND
        key = choice_key(name, candidates, self._material, self._job.settings.generate)
        known = read_choices(self._job.run).get(name)
        grader = self._job.grader_name
        if not isinstance(known, dict) or known["key"] != key or known.get("grader", grader) != grader:
            self._forget(name)
            known = {**self._choose(name, arm, candidates, key), "key": key, "grader": grader}
            record_choice(self._job.run, name, known)
            self._job.run.event("arm_chose", arm=name, chosen=known["chosen"], because=known["because"])
            self._describe(name, arm, f"{arm.description}; {known['chosen']}: {known['because']}")
        return next(one for one in candidates if one.name == known["chosen"])

    def _choose(self, name: str, arm: PromptingArm, candidates: Sequence[Candidate], key: str) -> JsonObject:
        budget = self._job.settings.compare.choosing_calls

        def scores(place: int, asked: Sequence[Question]) -> list[float]:
            path = self._job.run.arm_choosing(name, f"{key[:8]}-{place + 1:02d}")
            title = f"choose {name} {place + 1}/{len(candidates)}"
            answerer = self._answerer(arm.weights)
            lines = journaled(answerer, candidates[place], asked, path, title, self._job.voice)
            return [row.score for row in graded(self._grader, asked, lines)]

        self._job.voice.say(
            f"  {name}: {len(candidates)} ways of asking; at most {budget:,} answers to validation rows decide, the same for every arm"
        )
        choice: Choice = choose(candidates, self._validation, budget, scores)
        self._job.voice.say(f"  {name}: {candidates[choice.chosen].name}, {choice.because}")
        for path in self._job.run.answers.glob(self._job.run.arm_choosing(name, "*").name):
            path.unlink()
        example = (self._validation or self._material.pool)[0]
        asked = candidates[choice.chosen].ask(example, self._job.settings.compare.added_tokens)
        return {**choice.as_entry(candidates, budget), "example": [message.as_dict() for message in asked]}

    def _forget(self, name: str) -> None:
        """Take away answers to other prompts than those that the arm would ask now."""
        if read_choices(self._job.run).get(name) is not None:
            for kept in (name, *on_validation(name)):
                self._job.run.arm_answers(kept).unlink(missing_ok=True)
                self._job.run.arm_progress(kept).unlink(missing_ok=True)

    def _announce(self, name: str, asked: Sequence[Question]) -> None:
        """Say how many requests are sent to the endpoint at most; refuse where the settings allow fewer."""
        run, settings = self._job.run, self._job.settings.compare
        if not run.arm_answers(name).exists():
            answered = sum(1 for _ in entries(run.arm_progress(name)))
            needed = len(asked) - answered + (0 if name in read_choices(run) else settings.choosing_calls)
            answerer = self._answerer("endpoint")
            assert isinstance(answerer, EndpointAnswerer)
            answerer.refuse_beyond_budget(needed)
            self._job.voice.say(
                f"  {name}: at most {needed:,} requests to {settings.endpoint.url} for {settings.endpoint.model}"
            )

    def _describe(self, name: str, arm: PromptingArm, note: str) -> None:
        if not self._job.run.arm_answers(name).exists():
            held = words(self._job.settings.generate)
            how = held if arm.weights != "endpoint" else "; its answers are held to nothing" if held else ""
            trained = asked_as(self._job.settings, with_passages=name != "tuned") if arm.weights == "tuned" else ""
            self._job.run.event("arm_described", arm=name, note=note + trained + how)

    def _answerer(self, weights: Weights) -> Answerer:
        if self._loaded is None or self._loaded[0] != weights:
            self._loaded = None  # the memory of one model before the next is loaded
            made = EndpointAnswerer(self._job) if weights == "endpoint" else ModelAnswerer(self._job, weights)
            self._loaded = (weights, made)
        return self._loaded[1]

    def _journaled(
        self, name: str, answerer: Answerer, candidate: Candidate, asked: Sequence[Question]
    ) -> dict[str, Line]:
        path = self._job.run.arm_progress(name)
        return journaled(answerer, candidate, asked, path, f"answer {name}", self._job.voice)

    def _answered_directly(self, arm_type: type, asked: Sequence[Question]) -> dict[str, Line]:
        """Answers of an arm that learns from (question, answer) pairs and needs no language model."""
        job = self._job
        train, validation = (
            [(q.text, q.wanted) for q in questions(job.rows(part))] for part in ("train", "validation")
        )
        start = time.monotonic()
        with job.voice.bar("classical", None):
            arm = arm_type(train, validation, job.settings.compare.grader, job.settings.seed)
            answers = arm.answer([question.text for question in asked])
        seconds = (time.monotonic() - start) / max(1, len(asked))
        job.run.event("arm_described", arm="classical", note=arm.description)
        job.voice.say(f"  classical: {arm.description}")
        return {
            question.row.id: completion_line(Completion(question.row.id, answer, (), "stop", seconds), 0)
            for question, answer in zip(asked, answers, strict=True)
        }

    def _write(self, name: str, asked: Sequence[Question], answers: dict[str, Line]) -> None:
        rows = graded(self._grader, asked, answers)
        write_answers(self._job.run.arm_answers(name), rows, self._job.grader_name)
        self._job.run.arm_progress(name).unlink(missing_ok=True)


def on_validation(arm: str) -> tuple[str, str]:
    """Return the names under which an arm's answers to validation rows are kept: those held to a form, and free ones."""
    return f"{arm}_held_on_validation", f"{arm}_free_on_validation"


def answer_budget(job: Job) -> int:
    """Return 1.25 times the longest trained turn of the training rows, in tokens."""
    return math.ceil(1.25 * job.rendered("train").store.longest_answer())
