"""Grade what arms answered: as it comes, anew where another grader is asked for, and with further graders beside the first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from luthier.core.types import Grade, Grader, JsonObject, JsonValue
from luthier.graders.making.grading import Graded, destination, grade_all
from luthier.graders.making.spec import graders_named, learned
from luthier.recipes.job import Job
from luthier.verdict.answers import AnswerRow, answer_rows, arm_summary, graded_by, read_answers, write_answers
from luthier.verdict.figures import objects
from luthier.verdict.questions import Question, questions


def graded(grader: Grader, asked: Sequence[Question], answers: Mapping[str, JsonObject]) -> list[AnswerRow]:
    """Return the graded answers to some questions; `answers` holds a journal's line for each row."""
    looked_at = [Graded(one.text, str(answers[one.row.id]["text"]), one.wanted) for one in asked]
    grades = grade_all(grader, looked_at)
    return [_answer_row(one, answers[one.row.id], grade) for one, grade in zip(asked, grades, strict=True)]


def regrade(path: Path, grader: Grader, name: str) -> None:
    """Grade the answers that lie at `path` anew where another grader gave their grades."""
    if path.exists() and graded_by(path) != name:
        write_answers(path, _anew(grader, answer_rows(read_answers(path))), name)


def grade_also(job: Job, arms: JsonObject, rows: Mapping[str, Sequence[AnswerRow]], clusters: np.ndarray) -> None:
    """Add to each arm what the graders of `compare.also` find; they are shown, and nothing is tested by them."""
    examples = [question.wanted for question in questions(job.rows("train"))]
    for named in graders_named(job.settings.compare.also):
        grader = learned(named, examples).grader
        if destination(grader):
            job.voice.say(f"{named.name}: the questions and answers are sent to {destination(grader)}")
        for arm, answered in rows.items():
            found = arm_summary(_anew(grader, answered), grader, clusters, job.settings)
            kept: JsonObject = {key: found[key] for key in ("score", "interval", "metrics")}
            of_arm = arms[arm]
            assert isinstance(of_arm, dict)
            of_arm["also"] = {**objects(of_arm.get("also")), named.name: kept}


def named_graders(graders: Sequence[str], schema: str | None) -> JsonObject:
    """Return the settings that name graders: the first is the one that is tested, the others and a schema stand beside it."""
    others: list[JsonValue] = [*graders[1:], *([f"json_schema:schema={schema}"] if schema else [])]
    return {"compare.grader": graders[0] if graders else None, "compare.also": others or None}


def _anew(grader: Grader, rows: Sequence[AnswerRow]) -> list[AnswerRow]:
    looked_at = [Graded(row.question, row.completion, row.answer) for row in rows]
    grades = grade_all(grader, looked_at)
    return [replace(row, score=grade.score, grades=grade.marks) for row, grade in zip(rows, grades, strict=True)]


def _answer_row(question: Question, answered: JsonObject, grade: Grade) -> AnswerRow:
    tokens_in, tokens_out, seconds = (float(str(answered[key])) for key in ("tokens_in", "tokens_out", "seconds"))
    confidence = answered.get("confidence")
    return AnswerRow(
        id=question.row.id, file=question.row.file, line=question.row.line,
        messages=[message.as_dict() for message in question.messages], answer=question.wanted,
        completion=str(answered["text"]), finish_reason="stop" if answered["finish_reason"] == "stop" else "length",
        score=grade.score, grades=grade.marks, tokens_in=int(tokens_in), tokens_out=int(tokens_out), seconds=seconds,
        confidence=confidence if isinstance(confidence, float) else None,
    )  # fmt: skip
