"""Near-duplicate pairs by MinHash and banding, every one verified.

MinHash (Broder 1997, "On the resemblance and containment of documents"): under a random order of
all shingles, two sets begin with the same shingle with a probability equal to their Jaccard
similarity. Sets that agree in a whole band of such firsts are candidates; the true similarity decides.

A candidate pair depends on nothing that comes after its two sets, so further sets never change
which of the earlier ones were found alike.

Suffixes: N sets, K permutations, P pairs.
"""

from collections.abc import Callable

import numpy as np

from luthier.core.hashing import generator
from luthier.data.shingles import ShingleSets, distinct

Progress = Callable[[float], None]

_PERMUTATIONS = 128
_RECALL = 0.99
_SHINGLES_A_BATCH = 1 << 16
# In a crowded bucket a set meets its first members and its latest, not all: the sets of a crowd are
# mostly alike, so the few that are met are enough to join it.
_LATEST = 24
_FIRST = 8
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def near_pairs(sets: ShingleSets, threshold: float, progress: Progress | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (left < right) of sets whose Jaccard similarity is at least `threshold`.

    Pairs at the threshold itself are found with a probability of 99 %, more similar ones more surely.
    """
    num_sets = len(sets.members_N)
    if num_sets < 2:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    firsts_KN = _firsts(sets, progress)
    width = band_width(threshold)
    codes = np.empty(0, dtype=np.int64)
    for start in range(0, _PERMUTATIONS - width + 1, width):
        left_P, right_P = _band_pairs(firsts_KN[start : start + width])
        codes = distinct(np.concatenate([codes, left_P * num_sets + right_P]))
    left_P, right_P = np.divmod(codes, num_sets)
    alike_P = sets.jaccard(left_P, right_P) >= threshold
    return left_P[alike_P], right_P[alike_P]


def band_width(threshold: float) -> int:
    """Return the widest band with which a pair at the threshold is still found with 99 % probability."""
    widths = [
        width
        for width in range(1, _PERMUTATIONS + 1)
        if 1 - (1 - threshold**width) ** (_PERMUTATIONS // width) >= _RECALL
    ]
    return max(widths, default=1)


def _firsts(sets: ShingleSets, progress: Progress | None) -> np.ndarray:
    """Return the smallest shingle of each set under each permutation, a batch of sets at a time."""
    num_sets = len(sets.members_N)
    rng = generator("minhash", 1)
    factors_K = rng.integers(0, 1 << 31, _PERMUTATIONS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    offsets_K = rng.integers(0, 1 << 32, _PERMUTATIONS, dtype=np.uint32)
    firsts_KN = np.empty((_PERMUTATIONS, num_sets), dtype=np.uint32)
    begin = 0
    while begin < num_sets:
        limit = sets.starts_N[begin] + _SHINGLES_A_BATCH
        end = max(begin + 1, int(np.searchsorted(sets.starts_N, limit, side="right")) - 1)
        starts = sets.starts_N[begin:end]
        ids = sets.ids_S[starts[0] : sets.starts_N[end]].astype(np.uint32)
        for k in range(_PERMUTATIONS):
            shuffled = ids * factors_K[k] + offsets_K[k]
            firsts_KN[k, begin:end] = np.minimum.reduceat(shuffled, starts - starts[0])
        begin = end
        if progress is not None:
            progress(begin / num_sets)
    return firsts_KN


def _band_pairs(firsts_RN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of sets that agree in all of a band's R permutations, bounded in crowded buckets."""
    keys = np.zeros(firsts_RN.shape[1], dtype=np.uint64)
    for firsts_N in firsts_RN:
        keys = (keys ^ firsts_N) * _MIX
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    bucket_start = np.maximum.accumulate(np.where(np.r_[True, keys[1:] != keys[:-1]], np.arange(len(keys)), 0))
    rank = np.arange(len(keys)) - bucket_start
    lefts, rights = [], []
    for back in range(1, min(_LATEST, int(rank.max())) + 1):
        later = np.flatnonzero(rank >= back)
        lefts.append(order[later - back])
        rights.append(order[later])
    for first in range(_FIRST):
        later = np.flatnonzero(rank > _LATEST + first)
        lefts.append(order[bucket_start[later] + first])
        rights.append(order[later])
    return np.concatenate(lefts), np.concatenate(rights)
