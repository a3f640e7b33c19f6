"""How sure are we? Intervals and paired differences whose unit is the cluster.

Rows that are near-duplicates, or belong to one customer or document, are not independent, so clusters are drawn
and flipped, never rows: else intervals come out several times too narrow (Miller 2024, "Adding Error Bars to Evals",
arXiv 2411.00640). Two arms that answered the same questions are compared question by question. How intervals are
made stands in bootstrap.py, how p-values in permute.py; docs/verdict.md tells both in plain words.

Shapes: R rows, G clusters, S scores that share rows and clusters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from luthier.core.types import Interval
from luthier.verdict.between_folds import Errors, errors
from luthier.verdict.bootstrap import TAIL, interval_ends, per_cluster, standard_errors
from luthier.verdict.permute import holm, sign_flip

Outcome = Literal["better", "worse", "equivalent", "not worse", "undecided"]

_FLIPS_PER_RESAMPLE = 5


@dataclass(frozen=True, slots=True)
class Measure:
    """What a score is.

    `bounds` are the lowest and the highest score of a row, None where a score has no end;
    differences smaller than `margin` count as none.
    """

    bounds: tuple[float, float] | None = (0.0, 1.0)
    lower_is_better: bool = False
    margin: float = 0.0


SHARE = Measure()


@dataclass(frozen=True, slots=True)
class Difference:
    """The score of one arm less the score of another, and what that means for the first.

    `p` is that of the sign-flip test, after Holm's correction over the differences that were judged together.
    """

    value: float
    interval: Interval
    outcome: Outcome
    p: float = 1.0
    standard_error: float = 0.0


@dataclass(frozen=True)
class Sample:
    """Which rows belong together, how much each counts, and how intervals are drawn from them.

    `folds_R` is the fold of each row where every fold was answered by a model of its own, see between_folds.py.
    """

    clusters_R: np.ndarray
    resamples: int
    seed: int
    measure: Measure = SHARE
    weights_R: np.ndarray | None = None
    folds_R: np.ndarray | None = None


def mean(scores_R: np.ndarray, weights_R: np.ndarray | None = None) -> float:
    """Return the mean of the rows' scores; weighted, for instance bits per byte by the rows' bytes."""
    return float(np.average(scores_R, weights=weights_R))


def interval(
    scores_R: np.ndarray,
    clusters_R: np.ndarray,
    resamples: int,
    seed: int,
    measure: Measure = SHARE,
    weights_R: np.ndarray | None = None,
) -> Interval:
    """Return the 95 % interval of `mean` over clusters.

    Where all clusters have the same mean (every answer right, or a single cluster) a resample cannot
    differ from the sample, though another test set could: the interval then reaches as far as the
    clusters that G draws miss with a probability of 2.5 % (Clopper and Pearson 1934), which for one
    cluster is nearly everything. A score without bounds has no such reach, and its interval no width.
    """
    sample = Sample(clusters_R, resamples, seed, measure, weights_R)
    low_S, high_S = intervals(np.asarray(scores_R, dtype=np.float64)[:, None], sample)
    return Interval(float(low_S[0]), float(high_S[0]))


def intervals(scores_RS: np.ndarray, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of the intervals of S scores at once; see `interval`."""
    sums_GS, weights_G = _per_cluster(scores_RS, sample)
    means_GS = sums_GS / weights_G[:, None]
    low_S, high_S = _reach(means_GS.mean(axis=0), len(weights_G), sample.measure.bounds)
    varied_S = np.ptp(means_GS, axis=0) > 1e-12
    if varied_S.any():
        ends = interval_ends(sums_GS[:, varied_S], weights_G, sample.resamples, sample.seed)
        lowest, highest = sample.measure.bounds or (-np.inf, np.inf)
        if found := _errors(scores_RS[:, varied_S], sample):
            middle_S, wider_S = sums_GS[:, varied_S].sum(axis=0) / weights_G.sum(), found.widening_S()
            ends = tuple(middle_S + (end - middle_S) * wider_S for end in ends)
        low_S[varied_S], high_S[varied_S] = (np.clip(end, lowest, highest) for end in ends)
    return low_S, high_S


def paired(
    scores_a_R: np.ndarray,
    scores_b_R: np.ndarray,
    clusters_R: np.ndarray,
    resamples: int,
    seed: int,
    measure: Measure = SHARE,
    weights_R: np.ndarray | None = None,
) -> Difference:
    """Compare arm a with arm b on the same rows, in the same order; see `paired_all`."""
    sample = Sample(clusters_R, resamples, seed, measure, weights_R)
    return paired_all({"a": scores_a_R, "b": scores_b_R}, [("a", "b")], sample)[0]


def paired_all(scores: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], sample: Sample) -> list[Difference]:
    """Compare the first with the second arm of every pair on the same rows, and correct for the number of pairs.

    With the interval of a - b (of b - a where lower is better) and the margin m:
    inside (-m, m): equivalent (two one-sided tests, Schuirmann 1987); above 0: better; below 0: worse;
    above -m: not worse; else undecided. The interval is two-sided at 95 %, so each single claim of equivalence errs
    in at most 2.5 %. An interval that leaves out 0 against the sign-flip test, corrected after Holm, is drawn out to 0.
    """
    if not pairs:
        return []
    columns = [np.asarray(scores[a], dtype=np.float64) - scores[b] for a, b in pairs]
    differences_RS = np.stack(columns, axis=1)
    sums_GS, weights_G = _per_cluster(differences_RS, sample)
    p_values = [sign_flip(sums_G, _FLIPS_PER_RESAMPLE * sample.resamples, sample.seed) for sums_G in sums_GS.T]
    errors_S = standard_errors(sums_GS, weights_G) if len(weights_G) > 1 else np.zeros(len(pairs))
    if found := _errors(differences_RS, sample):
        errors_S, of_folds_S = found.total_S, found.p_values_S(sums_GS.sum(axis=0) / weights_G.sum())
        p_values = [max(flipped, of_folds) for flipped, of_folds in zip(p_values, of_folds_S.tolist())]
    p_values = holm(p_values)
    low_S, high_S = intervals(differences_RS, _of_differences(sample))
    return [
        _judged(mean(column, sample.weights_R), Interval(float(low), float(high)), p, float(error), sample.measure)
        for column, low, high, p, error in zip(columns, low_S, high_S, p_values, errors_S)
    ]


def outcome_of(gain: Interval, margin: float) -> Outcome:
    """Return what follows from the interval of a gain and the margin; see `paired_all`."""
    if -margin < gain.low and gain.high < margin:
        return "equivalent"
    if gain.low > 0:
        return "better"
    if gain.high < 0:
        return "worse"
    return "not worse" if gain.low > -margin else "undecided"


def effective_rows(scores_R: np.ndarray, clusters_R: np.ndarray) -> float:
    """Return how many independent rows tell as much as these: the rows over the design effect (Kish 1965)."""
    sums_GS, weights_G = _per_cluster(np.asarray(scores_R, dtype=np.float64)[:, None], Sample(clusters_R, 1, 0))
    rows, clusters = len(scores_R), len(weights_G)
    alone = float(np.var(scores_R, ddof=1)) / rows if rows > 1 else 0.0
    if clusters < 2 or alone <= 1e-24:
        return float(clusters)
    together = float(standard_errors(sums_GS, weights_G)[0]) ** 2
    return float(rows) if together <= alone else rows * alone / together


def _judged(value: float, ends: Interval, p: float, standard_error: float, measure: Measure) -> Difference:
    if p > 2 * TAIL and (ends.low > 0 or ends.high < 0):
        ends = Interval(min(ends.low, 0.0), max(ends.high, 0.0))
    gain = Interval(-ends.high, -ends.low) if measure.lower_is_better else ends
    return Difference(value, ends, outcome_of(gain, measure.margin), p, standard_error)


def _of_differences(sample: Sample) -> Sample:
    bounds = sample.measure.bounds
    width = None if bounds is None else bounds[1] - bounds[0]
    measure = Measure(bounds=None if width is None else (-width, width))
    return replace(sample, measure=measure)


def _per_cluster(scores_RS: np.ndarray, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    return per_cluster(scores_RS, sample.clusters_R, sample.weights_R)


def _errors(scores_RS: np.ndarray, sample: Sample) -> Errors | None:
    """Return the errors that respect folds, None where one model answered all rows or a single cluster tells nothing."""
    if sample.folds_R is None or len(np.unique(sample.clusters_R)) < 2:
        return None
    return errors(scores_RS, sample.clusters_R, sample.weights_R, sample.folds_R)


def _reach(values_S: np.ndarray, clusters: int, bounds: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
    if bounds is None:
        return values_S.copy(), values_S.copy()
    unseen = 1 - TAIL ** (1 / clusters)
    return values_S - unseen * (values_S - bounds[0]), values_S + unseen * (bounds[1] - values_S)
