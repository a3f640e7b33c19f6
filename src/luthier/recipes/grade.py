"""Grade answers that lie in a file: every grader's score with its interval, its metrics, and the worst rows."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from luthier.config.settings import DataSettings
from luthier.core import parts
from luthier.core.errors import DataError
from luthier.core.rundir import RunDir
from luthier.core.types import Grade, JsonObject, Row
from luthier.data.read import read
from luthier.data.store import read_stored
from luthier.graders.making.describe import GraderHelp, help_of
from luthier.graders.making.grading import Graded, destination, grade_all
from luthier.graders.making.spec import GRADERS, NamedGrader, graders_named, learned, needs_answer
from luthier.recipes.answers_file import Answered, Columns, answers_from_python, read_answers_file, run_of
from luthier.recipes.voice import Voice
from luthier.verdict.choose import choose_grader
from luthier.verdict.questions import questions
from luthier.verdict.stats import interval, mean

RESAMPLES = 2000
SEED = 0
WORST = 5


def grade(
    rows_or_path: Iterable[JsonObject] | str | Path,
    graders: str | Sequence[str] = (),
    *,
    prompt: str | None = None,
    completion: str | None = None,
    answer: str | Sequence[str] = (),
    train: str | Path | None = None,
    worst: int = WORST,
    quiet: bool = False,
) -> JsonObject:
    """Grade answers, as `luthier grade` does, and return what it prints with `--json`.

    `rows_or_path` is a file, folder or glob, or any iterable of dicts. `graders` are names, with settings if need be
    (`"regex:pattern=^yes"`); chosen from the wanted answers when absent. The columns are found by their usual names unless
    named. `train` is a file of training rows for the graders that learn from them, such as `style`.
    """
    voice = Voice(quiet=quiet)
    columns = Columns(prompt, completion, tuple(answer.split(",")) if isinstance(answer, str) else tuple(answer))
    given = str(rows_or_path) if isinstance(rows_or_path, str | Path) else None
    specs = [graders] if isinstance(graders, str) else list(graders)
    named = graders_named(specs)
    rows = read_answers_file(given, columns) if given else answers_from_python(rows_or_path, columns)  # type: ignore[arg-type]  # either the path is given, or rows are
    examples = _training_answers(None if train is None else str(train), given, voice)
    named = [learned(one, examples) for one in named] or [_chosen(rows, voice)]
    _ensure_answers(rows, named, given or "the rows")
    results = [_result(one, rows, worst, voice) for one in named]
    return {"answers": given or "<python>", "rows": len(rows), "graders": [*results]}


def listed(name: str | None = None) -> list[GraderHelp]:
    """Return what every grader is for, or one."""
    return [help_of(one) for one in ([name] if name else parts.names(GRADERS))]


def listed_as_json(name: str | None = None) -> list[JsonObject]:
    """Return the same as JSON objects."""
    return [asdict(one) for one in listed(name)]


def _result(named: NamedGrader, rows: Sequence[Answered], worst: int, voice: Voice) -> JsonObject:
    if destination(named.grader):
        voice.say(f"{named.name}: {len(rows):,} questions and answers are sent to {destination(named.grader)}")
    looked_at = [Graded(row.prompt, row.completion, row.answer or "") for row in rows]
    grades = [*voice.track(f"grade {named.name}", grade_all(named.grader, looked_at), len(rows))]
    scores_R = np.array([grade.score for grade in grades])
    # Nothing is known here about rows that belong together, so each is taken as a cluster of its own.
    ends = interval(scores_R, np.arange(len(rows)), RESAMPLES, SEED)
    return {
        "grader": named.name,
        "meaning": named.meaning,
        "score": mean(scores_R),
        "interval": [ends.low, ends.high],
        "metrics": dict(named.grader.metrics(grades)),
        "worst": [*_worst(rows, grades, worst)],
    }


def _worst(rows: Sequence[Answered], grades: Sequence[Grade], most: int) -> list[JsonObject]:
    """Return the rows with the lowest scores, those that come first in the file first; what is right is not among them."""
    order = sorted(range(len(rows)), key=lambda place: grades[place].score)
    found = [(rows[place], grades[place]) for place in order[:most] if grades[place].score < 1]
    return [asdict(row) | {"score": grade.score, "marks": dict(grade.marks)} for row, grade in found]


def _chosen(rows: Sequence[Answered], voice: Voice) -> NamedGrader:
    wanted = [row.answer for row in rows if row.answer is not None]
    if not wanted:
        raise DataError(
            "the rows have no wanted answer to choose a grader by; name a grader with --grader, or the column with --answer."
        )
    name, reason = choose_grader(wanted)
    voice.say(f"grading with {name}: {reason}")
    return graders_named([name])[0]


def _ensure_answers(rows: Sequence[Answered], named: Sequence[NamedGrader], where: str) -> None:
    if rows[0].answer is not None:
        return
    needing = [one.name for one in named if needs_answer(one.grader)]
    if needing:
        raise DataError(
            f"{where}: {', '.join(needing)} compares with a wanted answer, and no column holds one; name it with --answer."
        )


def _training_answers(train: str | None, answers: str | None, voice: Voice) -> list[str]:
    """Return the wanted answers of the training rows: those of a file, or of the run that the answers lie in."""
    if train is not None:
        found = [row for row in read(train, DataSettings(), voice.say) if isinstance(row, Row)]
        if not questions(found):
            raise DataError(f"{train}: no row is a conversation with an answer, so there is nothing to learn from.")
    else:
        folder = run_of(answers) if answers else None
        stored = RunDir(folder).part("train") if folder else None
        found = list(read_stored(stored)) if stored and stored.exists() else []
    return [question.wanted for question in questions(found)]
