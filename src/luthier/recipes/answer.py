"""Let the arms answer the sealed questions, row by row on disk, so that a stop loses one batch at most."""

import math
import time
from collections.abc import Sequence
from typing import Literal, Protocol

import torch

from luthier.core import parts
from luthier.core.hashing import generator
from luthier.core.journal import Journal, entries
from luthier.core.types import Completion, Grader, JsonObject, Message, Prompt
from luthier.generate.engine import Engine
from luthier.recipes.differences import clusters_of
from luthier.recipes.job import Job
from luthier.verdict.answers import AnswerRow, answer_rows, arm_summary, read_answers, write_answers
from luthier.verdict.questions import Question, questions

ARMS = "luthier.verdict.arms"
ON_TRAINING = "tuned_on_training"


class PromptingArm(Protocol):
    """An arm whose answers a language model writes, with the base or the tuned weights."""

    weights: Literal["base", "tuned"]

    def prompt(self, question: Question) -> tuple[Message, ...]:
        """Return the messages that the model is given."""
        ...


def answer_arm(job: Job, name: str, asked: Sequence[Question], grader: Grader) -> None:
    """Write `answers/<arm>.parquet`; questions answered in an earlier process are not asked again."""
    if job.run.arm_answers(name).exists():
        return
    arm = parts.load(ARMS, name, "Arm")
    if arm.weights is None:
        completions = _answered_directly(job, arm, asked)
    else:
        job.run.event("arm_described", arm=name, note=arm.description)
        completions = _answered_by_model(job, name, arm(), asked)
    rows = [_graded(question, completions[question.row.id], grader) for question in asked]
    write_answers(job.run.arm_answers(name), rows)
    job.run.arm_progress(name).unlink(missing_ok=True)


def engine(job: Job, weights: Literal["base", "tuned"], *, budget: int | None = None) -> Engine:
    """Make the engine that decodes with the base or the tuned weights, by the run's own settings."""
    model = job.base_model().eval() if weights == "base" else job.tuned_model()
    settings = job.settings.generate
    max_new_tokens = budget or settings.max_new_tokens
    assert max_new_tokens
    pad = job.tokenizer.pad_token_id
    return Engine(
        model, job.renderer.stop_tokens, pad if isinstance(pad, int) else 0, unrender=job.renderer.unrender,
        max_new_tokens=max_new_tokens, temperature=settings.temperature, top_p=settings.top_p, seed=job.settings.seed,
        batch_size=settings.batch_size,
    )  # fmt: skip


def _answered_directly(job: Job, arm_type: type, asked: Sequence[Question]) -> dict[str, JsonObject]:
    """Answers of an arm that learns from (question, answer) pairs and needs no language model."""
    train, validation = ([(q.text, q.wanted) for q in questions(job.rows(part))] for part in ("train", "validation"))
    start = time.monotonic()
    with job.voice.bar("classical", None):
        arm = arm_type(train, validation, job.settings.compare.grader, job.settings.seed)
        answers = arm.answer([question.text for question in asked])
    seconds = (time.monotonic() - start) / max(1, len(asked))
    job.run.event("arm_described", arm="classical", note=arm.description)
    job.voice.say(f"  classical: {arm.description}")
    return {
        question.row.id: _line(Completion(question.row.id, answer, (), "stop", seconds), 0)
        for question, answer in zip(asked, answers, strict=True)
    }


def _answered_by_model(job: Job, name: str, arm: PromptingArm, asked: Sequence[Question]) -> dict[str, JsonObject]:
    prompts = [Prompt(q.row.id, tuple(job.renderer.prompt(arm.prompt(q), q.tools))) for q in asked]
    sizes = {prompt.row: len(prompt.tokens) for prompt in prompts}
    done = {str(entry["row"]): entry for entry in entries(job.run.arm_progress(name))}
    if len(done) == len(prompts):
        return done
    decoder = engine(job, arm.weights)
    with (
        Journal(job.run.arm_progress(name)) as journal,
        job.voice.bar(f"answer {name}", len(prompts)) as bar,
        torch.inference_mode(),
    ):
        for batch in decoder.batches(prompts):
            if any(prompt.row not in done for prompt in batch):
                for completion in decoder.complete_batch(batch):
                    if completion.row not in done:
                        line = done[completion.row] = _line(completion, sizes[completion.row])
                        journal.write(line)
                journal.sync()
            bar.show(len(done))
    return done


def _line(completion: Completion, tokens_in: int) -> JsonObject:
    return {
        "row": completion.row, "text": completion.text, "finish_reason": completion.finish_reason, "tokens_in": tokens_in,
        "tokens_out": len(completion.tokens), "seconds": completion.seconds,
    }  # fmt: skip


def _graded(question: Question, answered: JsonObject, grader: Grader) -> AnswerRow:
    grade = grader.grade(question.text, str(answered["text"]), question.wanted)
    tokens_in, tokens_out, seconds = (float(str(answered[key])) for key in ("tokens_in", "tokens_out", "seconds"))
    return AnswerRow(
        id=question.row.id, file=question.row.file, line=question.row.line,
        messages=[message.as_dict() for message in question.messages], answer=question.wanted, completion=str(answered["text"]),
        finish_reason="stop" if answered["finish_reason"] == "stop" else "length", score=grade.score, grades=grade.marks,
        tokens_in=int(tokens_in), tokens_out=int(tokens_out), seconds=seconds,
    )  # fmt: skip


def answer_budget(job: Job) -> int:
    """Return 1.25 times the longest trained turn of the training rows, in tokens."""
    return math.ceil(1.25 * job.rendered("train").store.longest_answer())


def training_gap(job: Job, grader: Grader) -> JsonObject | None:
    """Ask the tuned model some of its own training rows: what it reaches above the test is memorized."""
    count = job.settings.compare.train_rows
    if not count or "tuned" not in job.settings.compare.arms:
        return None
    asked = questions(job.rendered("train").rows)
    chosen = generator(job.settings.seed, "train rows").permutation(len(asked))[:count]
    asked = [asked[place] for place in sorted(chosen)]
    if not job.run.arm_answers(ON_TRAINING).exists():
        completions = _answered_by_model(job, ON_TRAINING, parts.load(ARMS, "tuned", "Arm")(), asked)
        write_answers(job.run.arm_answers(ON_TRAINING), [_graded(q, completions[q.row.id], grader) for q in asked])
        job.run.arm_progress(ON_TRAINING).unlink(missing_ok=True)
    clusters = clusters_of(job, [question.row.id for question in asked])
    rows = answer_rows(read_answers(job.run.arm_answers(ON_TRAINING)))
    summary = arm_summary(rows, grader, clusters, job.settings)
    return {"score": summary["score"], "interval": summary["interval"], "rows": len(rows)}
