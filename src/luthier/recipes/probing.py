"""Look closer at the trained arm's answers: what it has by heart, how it does far from its rows, where it is weak."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from luthier.core.hashing import generator
from luthier.core.types import JsonObject
from luthier.data.nearest import nearest_likeness
from luthier.recipes.job import Job
from luthier.verdict.answers import AnswerRow
from luthier.verdict.overfit import memorized, near_and_far, together
from luthier.verdict.questions import Question, questions
from luthier.verdict.rules import TRAINED
from luthier.verdict.slices import slices
from luthier.verdict.stats import Sample

# Enough to find the nearest of; the time of the search grows with the product of both.
_MOST_TRAINING_ROWS = 50_000


class Section(NamedTuple):
    """Test rows, by their places, and the run whose training rows the model that answered them has seen."""

    places: np.ndarray
    job: Job


def probed(
    answers: Mapping[str, Sequence[AnswerRow]],
    scores: Mapping[str, np.ndarray],
    sample: Sample,
    sections: Sequence[Section],
) -> JsonObject:
    """Return `overfit` and `slices` of the first trained arm; null and empty where there is none."""
    arm = next((name for name in TRAINED if name in answers), None)
    if arm is None:
        return {"overfit": None, "slices": []}
    rows = answers[arm]
    likeness_R, memories = np.zeros(len(rows)), []
    for section in sections:
        training, own = _training(section.job), [rows[place] for place in section.places]
        likeness_R[section.places] = nearest_likeness([row.question for row in own], [one.text for one in training])
        memories.append(memorized(own, [one.wanted for one in training]))
    return {
        "overfit": {"arm": arm, "memorized": together(memories), "nearness": near_and_far(scores, likeness_R, sample)},
        "slices": [*slices(rows, scores, arm, sample)],
    }  # fmt: skip


def _training(job: Job) -> list[Question]:
    asked = questions(job.rows("train"))
    order = generator(job.settings.seed, "probing").permutation(len(asked))[:_MOST_TRAINING_ROWS]
    return [asked[place] for place in np.sort(order).tolist()]
