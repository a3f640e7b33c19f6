"""Every arm against every other on the same rows, resampling clusters."""

import numpy as np

from luthier.core.types import JsonObject, JsonValue
from luthier.data.ledger import read_ledger
from luthier.recipes.job import Job
from luthier.verdict.stats import Measure, paired

NEEDS_TRAINING = ("tuned", "tuned_retrieval")


def differences_of(
    job: Job, scores: dict[str, np.ndarray], clusters: np.ndarray, measure: Measure, weights: np.ndarray | None
) -> list[JsonObject]:
    """Compare the tuned arm with every other, and the others with one another, on the same rows."""
    names = sorted(scores, key=lambda name: name not in NEEDS_TRAINING)
    found: list[JsonObject] = []
    for place, a in enumerate(names):
        for b in names[place + 1 :]:
            difference = paired(
                scores[a], scores[b], clusters, job.settings.compare.resamples, job.settings.seed, measure, weights
            )
            ends: list[JsonValue] = [difference.interval.low, difference.interval.high]
            found.append({"a": a, "b": b, "value": difference.value, "interval": ends, "outcome": difference.outcome})
    return found


def clusters_of(job: Job, ids: list[str]) -> np.ndarray:
    """The cluster number of each row, from the ledger."""
    table = read_ledger(job.run.ledger).select(["id", "cluster"]).to_pydict()
    cluster = dict(zip(table["id"], table["cluster"], strict=True))
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(cluster[row], len(numbers)) for row in ids])
