"""Intervals from drawing whole clusters again and again: bias-corrected and accelerated, studentized where they are few.

The percentile interval is too short on few rows and blind to skew. BCa mends skew (Efron 1987, "Better Bootstrap
Confidence Intervals"); its normal quantiles are replaced by Student's, which mends the shortness (Hesterberg 2015,
"What Teachers Should Know About the Bootstrap", section 4.3). Under twenty clusters a resample knows too little, so
the interval is the mean and Student's t times the cluster-robust standard error.

Shapes: R rows, G clusters, S scores that share the clusters, B resamples. All means are ratios of sums, for clusters differ in size.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from luthier.core.hashing import generator

TAIL = 0.025
FEW_CLUSTERS = 20
_DRAWS_AT_ONCE = 1 << 21


def per_cluster(
    scores_RS: np.ndarray, clusters_R: np.ndarray, weights_R: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return per cluster the weighted sums of the scores of its rows, and its weight."""
    assert len(scores_RS) == len(clusters_R) > 0
    weights_R = np.ones(len(scores_RS)) if weights_R is None else np.asarray(weights_R, dtype=np.float64)
    first_G, cluster_of_R = np.unique(clusters_R, return_inverse=True)
    sums_GS = np.zeros((len(first_G), scores_RS.shape[1]))
    np.add.at(sums_GS, cluster_of_R, scores_RS * weights_R[:, None])
    return sums_GS, np.bincount(cluster_of_R, weights=weights_R)


def interval_ends(
    sums_GS: np.ndarray, weights_G: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper end of the 95 % interval of each of the S means; G must be at least 2."""
    clusters = len(weights_G)
    assert clusters > 1
    quantile = float(student.ppf(1 - TAIL, clusters - 1))
    if clusters < FEW_CLUSTERS:
        means_S, reach_S = _means(sums_GS, weights_G), quantile * standard_errors(sums_GS, weights_G)
        return means_S - reach_S, means_S + reach_S
    means_BS = resampled_means(sums_GS, weights_G, resamples, seed)
    return _bca(means_BS, sums_GS, weights_G, quantile * np.sqrt(clusters / (clusters - 1)))


def standard_errors(sums_GS: np.ndarray, weights_G: np.ndarray) -> np.ndarray:
    """Return the cluster-robust standard error of each mean: that of a ratio, linearized; G must be at least 2."""
    clusters = len(weights_G)
    residuals_GS = sums_GS - _means(sums_GS, weights_G) * weights_G[:, None]
    return np.sqrt((residuals_GS**2).sum(axis=0) * clusters / (clusters - 1)) / weights_G.sum()


def resampled_means(sums_GS: np.ndarray, weights_G: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return B by S means of G clusters drawn with replacement; the same draws serve all S scores."""
    return np.concatenate(
        [
            (counts_BG @ sums_GS) / (counts_BG @ weights_G)[:, None]
            for counts_BG in _draws(len(weights_G), resamples, seed)
        ]
    )


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each cluster was drawn, some resamples at a time."""
    rng = generator(seed, "bootstrap", clusters)
    at_once = max(1, _DRAWS_AT_ONCE // clusters)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn_BG = rng.integers(0, clusters, size=(size, clusters)) + np.arange(size)[:, None] * clusters
        yield np.bincount(drawn_BG.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)


def _means(sums_GS: np.ndarray, weights_G: np.ndarray) -> np.ndarray:
    return sums_GS.sum(axis=0) / weights_G.sum()


def _bca(
    means_BS: np.ndarray, sums_GS: np.ndarray, weights_G: np.ndarray, quantile: float
) -> tuple[np.ndarray, np.ndarray]:
    resamples = len(means_BS)
    means_S = _means(sums_GS, weights_G)
    hair = 1e-12 * (1 + np.abs(means_S))  # sums of the same numbers in another order differ in their last digit
    below_S = ((means_BS < means_S - hair).mean(axis=0) + (means_BS <= means_S + hair).mean(axis=0)) / 2
    bias_S = ndtri(np.clip(below_S, 1 / (resamples + 1), resamples / (resamples + 1)))
    skew_S = _acceleration(sums_GS, weights_G)
    ordered_BS = np.sort(means_BS, axis=0)
    low_S, high_S = (
        _quantiles(ordered_BS, ndtr(bias_S + (bias_S + z) / (1 - skew_S * (bias_S + z)))) for z in (-quantile, quantile)
    )
    return low_S, high_S


def _acceleration(sums_GS: np.ndarray, weights_G: np.ndarray) -> np.ndarray:
    """Return Efron's acceleration, from the means without each cluster in turn; 0 where nothing varies."""
    left_out_GS = (sums_GS.sum(axis=0) - sums_GS) / (weights_G.sum() - weights_G)[:, None]
    away_GS = left_out_GS.mean(axis=0) - left_out_GS
    spread_S = (away_GS**2).sum(axis=0) ** 1.5
    return np.divide((away_GS**3).sum(axis=0), 6 * spread_S, out=np.zeros(len(spread_S)), where=spread_S > 0)


def _quantiles(ordered_BS: np.ndarray, shares_S: np.ndarray) -> np.ndarray:
    """Return one quantile of each column, between two resamples where it falls there."""
    places_S = shares_S * (len(ordered_BS) - 1)
    floors_S = np.floor(places_S).astype(np.int64)
    ceils_S = np.minimum(floors_S + 1, len(ordered_BS) - 1)
    columns_S = np.arange(ordered_BS.shape[1])
    share_S = places_S - floors_S
    return ordered_BS[floors_S, columns_S] * (1 - share_S) + ordered_BS[ceils_S, columns_S] * share_S
