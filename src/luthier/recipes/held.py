"""What holding answers to a form does: the same validation rows, answered by every arm with and without it.

The test is looked at once, under the decoding that was asked for; so the difference is measured where arms choose.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from luthier.config.load import with_values
from luthier.core import parts
from luthier.core.types import Grader, JsonObject
from luthier.recipes.answer import ARMS, Answering, on_validation
from luthier.recipes.choosing import validation_order
from luthier.recipes.decode import conformity
from luthier.recipes.differences import clusters_of
from luthier.recipes.job import Job
from luthier.verdict.answers import AnswerRow
from luthier.verdict.asking import Candidate, Weights
from luthier.verdict.questions import questions
from luthier.verdict.stats import Measure, Sample, mean, paired_all


def holding(job: Job, grader: Grader) -> JsonObject | None:
    """Return what `verdict.json` says of each arm held and free; None where nothing is held, or no validation row is there."""
    generate, count = job.settings.generate, job.settings.compare.held_rows
    if generate.constrain is None or generate.decode == "score" or not count:
        return None
    asked = validation_order(questions(job.rendered("validation").rows), count, job.settings.seed)
    answering = Answering(job, grader)
    ways = {name: way for name in job.settings.compare.arms if (way := _held_way(answering, name)) is not None}
    if not asked or not ways:
        return None
    free_job = Job(job.run, with_values(job.settings, {"generate.constrain": None}), job.voice)
    sides: list[dict[str, list[AnswerRow]]] = []
    weights: dict[str, Weights] = {name: of_arm for name in ways if (of_arm := _weights(name)) is not None}
    for place, side in enumerate((job, free_job)):
        answering = Answering(side, grader)  # one after the other, so that one model at a time is in memory
        sides.append({
            name: answering.kept(on_validation(name)[place], weights[name], way, asked) for name, way in ways.items()
        })  # fmt: skip
        del answering
    clusters_R, fits = clusters_of(job, [one.row.id for one in asked]), conformity(job)
    found: JsonObject = {
        "held_to": generate.constrain, "rows": len(asked), "arms": _arms(job, sides[0], sides[1], clusters_R, fits),
    }  # fmt: skip
    _say(job, found)
    return found


def _arms(
    job: Job,
    held: Mapping[str, Sequence[AnswerRow]],
    free: Mapping[str, Sequence[AnswerRow]],
    clusters_R: np.ndarray,
    fits: Callable[[str, str], bool],
) -> JsonObject:
    settings = job.settings
    sample = Sample(clusters_R, settings.compare.resamples, settings.seed, Measure(margin=settings.compare.margin))
    scores = {
        f"{side} {name}": np.array([row.score for row in rows])
        for side, of_arms in (("held", held), ("free", free))
        for name, rows in of_arms.items()
    }
    differences = paired_all(scores, [(f"held {name}", f"free {name}") for name in held], sample)
    return {
        name: {
            **{
                side: {"score": mean(scores[f"{side} {name}"]), "valid": _valid(rows[name], fits)}
                for side, rows in (("held", held), ("free", free))
            },
            "value": found.value, "interval": [found.interval.low, found.interval.high], "outcome": found.outcome,
        }
        for name, found in zip(held, differences, strict=True)
    }  # fmt: skip


def _valid(rows: Sequence[AnswerRow], fits: Callable[[str, str], bool]) -> float:
    """Return the share of answers that are whole and of the form; one that was cut at its budget is neither."""
    return sum(row.finish_reason == "stop" and fits(row.question, row.completion) for row in rows) / len(rows)


def _held_way(answering: Answering, name: str) -> Candidate | None:
    """Return how an arm asks whose answers can be held: not one that asks no model, nor a model behind an address."""
    return None if _weights(name) in (None, "endpoint") else answering.way_of_asking(name)


def _weights(name: str) -> Weights | None:
    return parts.load(ARMS, name, "Arm").weights


def _say(job: Job, found: JsonObject) -> None:
    arms = found["arms"]
    assert isinstance(arms, dict)
    said = ", ".join(f"{name} {100 * arm['value']:+.1f}" for name, arm in arms.items())  # type: ignore[index,call-overload,operator]
    job.voice.say(f"held to {found['held_to']}, on {found['rows']} validation rows: {said} points of score")
