"""Are two arms different at all? The sign-flip test over clusters, and Holm's correction over several tests.

If two arms are equally good, either could have given each cluster's answers, so the sign of a cluster's difference is a
coin. The p-value is the share of all signings that differ at least as much (Fisher 1935); of the signings that differ
exactly as much, half counts (the mid-p of Lancaster 1961), else the test is too timid where scores are right or wrong.
For single rows that are right or wrong this is McNemar's test with mid-p.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from scipy.stats import binom

from luthier.core.hashing import generator

_MOST_ENUMERATED = 12
_FLIPS_AT_ONCE = 1 << 21
_HAIR = 1e-9


def sign_flip(sums_G: np.ndarray, flips: int, seed: int) -> float:
    """Return the two-sided mid-p of no difference, given each cluster's summed difference.

    It is exact where all differences are of one size or at most twelve clusters differ; else from `flips` random signings.
    """
    sizes = np.abs(sums_G[np.abs(sums_G) > _HAIR])
    if not len(sizes):
        return 1.0
    seen = abs(float(sums_G.sum()))
    if np.ptp(sizes) <= _HAIR * sizes.max():
        return _of_coins(len(sizes), round(seen / float(sizes.mean())))
    if len(sizes) <= _MOST_ENUMERATED:
        return _mid_p(_all_signings(sizes), seen)
    rng = generator(seed, "sign flips", len(sizes))
    at_once = max(1, _FLIPS_AT_ONCE // len(sizes))
    chunks = [min(at_once, flips - start) for start in range(0, flips, at_once)]
    flipped = [(rng.integers(0, 2, size=(size, len(sizes)), dtype=np.int8) * 2.0 - 1) @ sizes for size in chunks]
    # The signing that was seen is one of them, so that no p-value is 0.
    return _mid_p(np.concatenate([*flipped, [seen]]), seen)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number by Holm's step-down method (Holm 1979), in their order."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    steps = [(len(order) - rank) * p_values[place] for rank, place in enumerate(order)]
    raised = dict(zip(order, accumulate(steps, max)))
    return [min(1.0, raised[place]) for place in range(len(p_values))]


def _of_coins(coins: int, lead: int) -> float:
    """Return the chance that one side leads by more than `lead` among fair coins, and half that of exactly `lead`."""
    if lead == 0:
        return 1.0 - float(binom.pmf(coins // 2, coins, 0.5)) / 2
    heads = (coins + lead) // 2
    return float(2 * binom.sf(heads, coins, 0.5) + binom.pmf(heads, coins, 0.5))


def _all_signings(sizes: np.ndarray) -> np.ndarray:
    bits = np.arange(1 << len(sizes))[:, None] >> np.arange(len(sizes)) & 1
    return (bits * 2.0 - 1) @ sizes


def _mid_p(flipped: np.ndarray, seen: float) -> float:
    hair = _HAIR * max(1.0, seen)
    further, as_far = np.abs(flipped) > seen + hair, np.abs(np.abs(flipped) - seen) <= hair
    return float(further.mean() + as_far.mean() / 2)
