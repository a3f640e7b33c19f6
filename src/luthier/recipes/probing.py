"""Look closer at the trained arm's answers: what it has by heart, how it does far from its rows, where it is weak."""

from collections.abc import Mapping, Sequence

import numpy as np

from luthier.core.hashing import generator
from luthier.core.types import JsonObject
from luthier.data.nearest import nearest_likeness
from luthier.recipes.job import Job
from luthier.verdict.answers import AnswerRow
from luthier.verdict.overfit import memorized, near_and_far
from luthier.verdict.questions import Question, questions
from luthier.verdict.rules import TRAINED
from luthier.verdict.slices import slices
from luthier.verdict.stats import Sample

# Enough to find the nearest of; the time of the search grows with the product of both.
_MOST_TRAINING_ROWS = 50_000


def probed(
    job: Job, answers: Mapping[str, Sequence[AnswerRow]], scores: Mapping[str, np.ndarray], sample: Sample
) -> JsonObject:
    """Return `overfit` and `slices` of the first trained arm; null and empty where there is none."""
    arm = next((name for name in TRAINED if name in answers), None)
    if arm is None:
        return {"overfit": None, "slices": []}
    rows, training = answers[arm], _training(job)
    likeness_R = nearest_likeness([row.question for row in rows], [question.text for question in training])
    return {
        "overfit": {
            "arm": arm, "memorized": memorized(rows, [question.wanted for question in training]),
            "nearness": near_and_far(scores, likeness_R, sample),
        },
        "slices": [*slices(rows, scores, arm, sample)],
    }  # fmt: skip


def _training(job: Job) -> list[Question]:
    asked = questions(job.rows("train"))
    order = generator(job.settings.seed, "probing").permutation(len(asked))[:_MOST_TRAINING_ROWS]
    return [asked[place] for place in np.sort(order).tolist()]
