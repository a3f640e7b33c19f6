"""Let the arms answer the sealed questions, row by row on disk, so that a stop loses one batch at most."""

import json
import time
from collections.abc import Sequence
from typing import Literal

import torch

from luthier.core import parts
from luthier.core.journal import Journal, entries
from luthier.core.types import Completion, Grader, JsonObject, Prompt
from luthier.generate.engine import Engine
from luthier.recipes.job import Job
from luthier.verdict.answers import AnswerRow, read_answers, write_answers
from luthier.verdict.questions import Question, questions

ARMS = "luthier.verdict.arms"


def answer_arm(job: Job, name: str, asked: Sequence[Question], grader: Grader) -> None:
    """Write `answers/<arm>.parquet`; questions answered in an earlier process are not asked again."""
    if job.run.arm_answers(name).exists():
        return
    arm = parts.load(ARMS, name, "Arm")
    if arm.weights is None:
        completions = _answered_directly(job, arm, asked)
    else:
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
    job.voice.say(f"  classical: {arm.description}")
    return {
        question.row.id: _line(Completion(question.row.id, answer, (), "stop", seconds), 0)
        for question, answer in zip(asked, answers, strict=True)
    }


def _answered_by_model(job: Job, name: str, arm, asked: Sequence[Question]) -> dict[str, JsonObject]:  # noqa: ANN001
    prompts = [Prompt(q.row.id, tuple(job.renderer.prompt(arm.prompt(q), q.tools))) for q in asked]
    sizes = {prompt.row: len(prompt.tokens) for prompt in prompts}
    done = {str(entry["row"]): entry for entry in entries(job.run.arm_progress(name))}
    if len(done) == len(prompts):
        return done
    decoder = engine(job, arm.weights)
    with Journal(job.run.arm_progress(name)) as journal, job.voice.bar(f"answer {name}", len(prompts)) as bar, torch.inference_mode():
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
    return AnswerRow(
        id=question.row.id, file=question.row.file, line=question.row.line,
        messages=json.dumps([message.as_dict() for message in question.messages], ensure_ascii=False),
        answer=question.wanted, completion=str(answered["text"]), finish_reason=str(answered["finish_reason"]), score=grade.score,
        grades=json.dumps(dict(grade.marks), ensure_ascii=False),
        tokens_in=int(answered["tokens_in"]), tokens_out=int(answered["tokens_out"]), seconds=float(answered["seconds"]),
    )  # type: ignore[arg-type]  # fmt: skip


def answer_budget(job: Job) -> int:
    """Return 1.25 times the longest trained turn of the training rows, in tokens."""
    return int(1.25 * job.rendered("train").store.longest_answer() + 0.999)


__all__ = ["answer_arm", "answer_budget", "engine", "read_answers"]
