"""Scores, summaries and differences as a verdict holds them, made from right and wrong rows."""

from collections.abc import Mapping

import numpy as np

from luthier.core.types import JsonObject
from luthier.verdict.compared import differences, pairs_of
from luthier.verdict.stats import Measure, Sample, interval, mean


def right_and_wrong(share: float, rows: int) -> np.ndarray:
    """Return a 1 for this share of the rows and a 0 for the others, the first rows being the easiest."""
    return (np.arange(rows) < round(share * rows)).astype(float)


def summary(scores_R: np.ndarray) -> JsonObject:
    """Return what `verdict.json` says of an arm, as far as conclusions look at it."""
    bounds = (0.0, 1.0) if scores_R.max() <= 1 else None
    ends = interval(scores_R, np.arange(len(scores_R)), 200, 0, Measure(bounds=bounds))
    return {"score": mean(scores_R), "interval": [ends.low, ends.high]}


def differences_between(
    scores: Mapping[str, np.ndarray], margin: float, lower_is_better: bool = False
) -> list[JsonObject]:
    """Compare every arm with every other, each row being its own cluster."""
    rows = len(next(iter(scores.values())))
    measure = Measure(bounds=None if lower_is_better else (0.0, 1.0), lower_is_better=lower_is_better, margin=margin)
    return differences(scores, pairs_of(list(scores)), Sample(np.arange(rows), 300, 0, measure))
