"""Does the recipe win, or only these weights? Variance over training seeds beside variance over rows.

One trained model is one draw of its seed. The gain of a recipe is the mean over seeds, and its standard error has two
parts: rows (the cluster-robust error of the gains averaged over seeds) and seeds (their spread over the root of their
number). A little of the noise of rows is in both, so the interval is rather too wide than too narrow. Student's t has
the degrees of freedom of Welch and Satterthwaite, few where few seeds carry most of the error.

Shapes: R rows, K seeds.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from luthier.core.types import Interval, JsonObject
from luthier.verdict.bootstrap import TAIL, standard_errors
from luthier.verdict.stats import Measure, Outcome, outcome_of


@dataclass(frozen=True)
class OverSeeds:
    """The gain of a recipe over seeds: `over_rows` and `over_seeds` are the two standard errors of its mean."""

    gains: tuple[float, ...]
    value: float
    interval: Interval
    outcome: Outcome
    over_rows: float
    over_seeds: float

    def as_entry(self) -> JsonObject:
        """Return what `--json` prints."""
        return {
            "gains": list(self.gains), "value": self.value, "interval": [self.interval.low, self.interval.high],
            "outcome": self.outcome, "error_over_rows": self.over_rows, "error_over_seeds": self.over_seeds,
        }  # fmt: skip


def over_seeds(gains_KR: np.ndarray, clusters_R: np.ndarray, measure: Measure) -> OverSeeds:
    """Judge a recipe by its gains on the same rows under K seeds; K must be at least 2."""
    seeds = len(gains_KR)
    assert seeds > 1
    sums_GS, weights_G = _by_cluster(gains_KR.mean(axis=0), clusters_R)
    gains_K = gains_KR.mean(axis=1)
    of_rows = float(standard_errors(sums_GS, weights_G)[0]) if len(weights_G) > 1 else math.inf
    of_seeds = float(gains_K.std(ddof=1)) / math.sqrt(seeds)
    error, value = math.hypot(of_rows, of_seeds), float(gains_K.mean())
    reach = _quantile(of_rows, of_seeds, len(weights_G), seeds) * error if error else 0.0
    ends = Interval(value - reach, value + reach)
    gain = Interval(-ends.high, -ends.low) if measure.lower_is_better else ends
    return OverSeeds(tuple(map(float, gains_K)), value, ends, outcome_of(gain, measure.margin), of_rows, of_seeds)


def _by_cluster(gains_R: np.ndarray, clusters_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, cluster_of_R = np.unique(clusters_R, return_inverse=True)
    return np.bincount(cluster_of_R, weights=gains_R)[:, None], np.bincount(cluster_of_R).astype(np.float64)


def _quantile(of_rows: float, of_seeds: float, clusters: int, seeds: int) -> float:
    if not math.isfinite(of_rows):
        return 1.0
    parts = of_rows**4 / (clusters - 1) + of_seeds**4 / (seeds - 1)
    return float(student.ppf(1 - TAIL, (of_rows**2 + of_seeds**2) ** 2 / parts))
