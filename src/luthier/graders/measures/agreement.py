"""How far a judge agrees with people: the share of equal verdicts, and Cohen's kappa, which takes off what chance alone gives.

Wilson's interval (1927) for the share; for kappa (Cohen 1960, doi 10.1177/001316446002000104) a bootstrap over the rows.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from luthier.core.hashing import generator
from luthier.core.types import Interval

_RESAMPLES = 2000
_Z = NormalDist().inv_cdf(0.975)


def share_interval(hits: int, total: int) -> Interval:
    """Return Wilson's 95 % interval of a share."""
    share, squared = hits / total, _Z * _Z / total
    middle = (share + squared / 2) / (1 + squared)
    half = _Z / (1 + squared) * math.sqrt(share * (1 - share) / total + squared / (4 * total))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def kappa(left: Sequence[str], right: Sequence[str]) -> float:
    """Return Cohen's kappa of two raters: 1 where they always agree, 0 where they do as often as chance would have it.

    Where both give one and the same verdict throughout, chance alone agrees always, and kappa is 1 by convention.
    """
    kinds = sorted({*left, *right})
    table = _table(
        np.array([kinds.index(one) for one in left]), np.array([kinds.index(one) for one in right]), len(kinds)
    )
    return float(_kappas(table[None])[0])


def kappa_interval(left: Sequence[str], right: Sequence[str]) -> Interval:
    """Return the 95 % percentile interval of kappa over resampled rows; the same rows give the same interval."""
    kinds = sorted({*left, *right})
    pair_N = np.array([kinds.index(a) * len(kinds) + kinds.index(b) for a, b in zip(left, right, strict=True)])
    drawn = generator("kappa").multinomial(
        len(pair_N), np.bincount(pair_N, minlength=len(kinds) ** 2) / len(pair_N), size=_RESAMPLES
    )
    low, high = np.quantile(_kappas(drawn.reshape(_RESAMPLES, len(kinds), len(kinds))), [0.025, 0.975])
    return Interval(float(low), float(high))


def _table(left_N: np.ndarray, right_N: np.ndarray, kinds: int) -> np.ndarray:
    return np.bincount(left_N * kinds + right_N, minlength=kinds * kinds).reshape(kinds, kinds)


def _kappas(table_BKK: np.ndarray) -> np.ndarray:
    share_BKK = table_BKK / table_BKK.sum(axis=(1, 2), keepdims=True)
    agreed_B = np.trace(share_BKK, axis1=1, axis2=2)
    chance_B = (share_BKK.sum(axis=1) * share_BKK.sum(axis=2)).sum(axis=1)
    certain_B = chance_B >= 1 - 1e-12
    return np.where(certain_B, 1.0, (agreed_B - chance_B) / np.where(certain_B, 1.0, 1 - chance_B))
