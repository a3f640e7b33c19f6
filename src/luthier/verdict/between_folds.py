"""Intervals that respect folds: where each fold of the rows was answered by a model of its own, luck of the model counts too.

Rows of one fold share a model, so a gain has two sources of error: the rows, and the models, which differ in what they
learned from. The second is the spread of the folds' means beyond what their rows explain. Fold models share most of their
training rows, which makes their spread too small a measure; it counts (1/K + 1/(K-1)) instead of 1/K times (Nadeau and Bengio
2003, "Inference for the Generalization Error"). Student's t has the degrees of freedom of Welch and Satterthwaite.

Shapes: R rows, G clusters, K folds, S scores that share them. A cluster lies in one fold.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from luthier.verdict.bootstrap import TAIL, per_cluster, standard_errors


@dataclass(frozen=True)
class Errors:
    """The standard error of each mean, that of its rows alone and that of rows and models, and the degrees of freedom of the latter."""

    of_rows_S: np.ndarray
    total_S: np.ndarray
    freedom_S: np.ndarray
    clusters: int

    def widening_S(self) -> np.ndarray:
        """Return by how much an interval over rows has to be stretched to hold the luck of the models too; at least 1."""
        quantile = student.ppf(1 - TAIL, self.freedom_S) / student.ppf(1 - TAIL, max(1, self.clusters - 1))
        ratio_S = np.divide(self.total_S, self.of_rows_S, out=np.ones_like(self.total_S), where=self.of_rows_S > 0)
        return np.maximum(1.0, ratio_S * quantile)

    def p_values_S(self, means_S: np.ndarray) -> np.ndarray:
        """Return the two-sided p-value of each mean against 0; 1 where nothing varies."""
        safe_S = np.where(self.total_S > 0, self.total_S, np.inf)
        return 2 * student.sf(np.abs(means_S) / safe_S, self.freedom_S)


def errors(scores_RS: np.ndarray, clusters_R: np.ndarray, weights_R: np.ndarray | None, folds_R: np.ndarray) -> Errors:
    """Return the standard errors of S means whose rows were answered by one model a fold; there must be two clusters."""
    sums_GS, weights_G = per_cluster(scores_RS, clusters_R, weights_R)
    of_rows_S = standard_errors(sums_GS, weights_G)
    folds = np.unique(folds_R)
    if len(folds) < 2:
        return Errors(of_rows_S, of_rows_S, np.full(len(of_rows_S), max(1, len(weights_G) - 1)), len(weights_G))
    means_KS, within_KS = (
        np.stack(both)
        for both in zip(*(_of_fold(scores_RS, clusters_R, weights_R, folds_R == fold) for fold in folds), strict=True)
    )
    between_S = np.maximum(0.0, means_KS.var(axis=0, ddof=1) - within_KS.mean(axis=0))
    of_models_S = (1 / len(folds) + 1 / (len(folds) - 1)) * between_S
    total_S = of_rows_S**2 + of_models_S
    spread_S = of_rows_S**4 / max(1, len(weights_G) - 1) + of_models_S**2 / (len(folds) - 1)
    freedom_S = np.divide(total_S**2, spread_S, out=np.full_like(total_S, len(folds) - 1.0), where=spread_S > 0)
    return Errors(of_rows_S, np.sqrt(total_S), freedom_S, len(weights_G))


def _of_fold(
    scores_RS: np.ndarray, clusters_R: np.ndarray, weights_R: np.ndarray | None, chosen_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each score in a fold and how much of its variance the rows explain; 0 where one cluster tells nothing."""
    weights = None if weights_R is None else weights_R[chosen_R]
    sums_GS, weights_G = per_cluster(scores_RS[chosen_R], clusters_R[chosen_R], weights)
    means_S = sums_GS.sum(axis=0) / weights_G.sum()
    return means_S, standard_errors(sums_GS, weights_G) ** 2 if len(weights_G) > 1 else np.zeros(len(means_S))
