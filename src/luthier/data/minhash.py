"""Near-duplicate pairs by MinHash and banding, every one verified.

MinHash (Broder 1997, "On the resemblance and containment of documents"): under a random order of
all shingles, two sets begin with the same shingle with a probability equal to their Jaccard
similarity. Sets that agree in a whole band of such firsts are candidates; the true similarity decides.

A candidate pair depends on nothing that comes after its two sets, so further sets never change
which of the earlier ones were found alike.

Suffixes: N sets, K permutations, P pairs.
"""

from collections.abc import Callable, Iterator

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
    width = band_width(threshold)
    codes = np.empty(0, dtype=np.int64)
    num_bands = _PERMUTATIONS // width
    for band in range(num_bands):
        firsts_RN = _firsts(sets, range(band * width, (band + 1) * width))
        for left_P, right_P in _band_pairs(firsts_RN):
            codes = distinct(np.concatenate([codes, _verified(sets, left_P, right_P, threshold, codes)]))
        if progress is not None:
            progress((band + 1) / num_bands)
    return np.divmod(codes, num_sets)


def band_width(threshold: float) -> int:
    """Return the widest band with which a pair at the threshold is still found with 99 % probability."""
    widths = [
        width
        for width in range(1, _PERMUTATIONS + 1)
        if 1 - (1 - threshold**width) ** (_PERMUTATIONS // width) >= _RECALL
    ]
    return max(widths, default=1)


def _verified(
    sets: ShingleSets, left_P: np.ndarray, right_P: np.ndarray, threshold: float, known: np.ndarray
) -> np.ndarray:
    """Return the pairs, as numbers, that are not yet known and whose similarity is at least `threshold`.

    Verified at once rather than gathered over all bands, as in a crowd most candidates are false.
    """
    small, large = np.sort([sets.sizes_N[left_P], sets.sizes_N[right_P]], axis=0)
    # Sets that differ too much in size cannot be alike; the hair keeps rounding from ruling a pair out.
    could_be = small >= threshold * large - 1e-6
    codes = np.setdiff1d((left_P * len(sets.members_N) + right_P)[could_be], known, assume_unique=True)
    left_P, right_P = np.divmod(codes, len(sets.members_N))
    return codes[sets.jaccard(left_P, right_P) >= threshold]


def _firsts(sets: ShingleSets, permutations: range) -> np.ndarray:
    """Return the smallest shingle of each set under each of the permutations, a batch of sets at a time."""
    num_sets = len(sets.members_N)
    rng = generator("minhash", 1)
    factors_K = rng.integers(0, 1 << 31, _PERMUTATIONS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    offsets_K = rng.integers(0, 1 << 32, _PERMUTATIONS, dtype=np.uint32)
    firsts_RN = np.empty((len(permutations), num_sets), dtype=np.uint32)
    begin = 0
    while begin < num_sets:
        limit = sets.starts_N[begin] + _SHINGLES_A_BATCH
        end = max(begin + 1, int(np.searchsorted(sets.starts_N, limit, side="right")) - 1)
        starts = sets.starts_N[begin:end]
        ids = sets.ids_S[starts[0] : sets.starts_N[end]].astype(np.uint32)
        for r, k in enumerate(permutations):
            shuffled = ids * factors_K[k] + offsets_K[k]
            firsts_RN[r, begin:end] = np.minimum.reduceat(shuffled, starts - starts[0])
        begin = end
    return firsts_RN


def _band_pairs(firsts_RN: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of sets that agree in all of a band's R permutations, bounded in crowded buckets.

    No pair comes twice, and no more than one a set at a time.
    """
    keys = np.zeros(firsts_RN.shape[1], dtype=np.uint64)
    for firsts_N in firsts_RN:
        keys = (keys ^ firsts_N) * _MIX
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    bucket_start = np.maximum.accumulate(np.where(np.r_[True, keys[1:] != keys[:-1]], np.arange(len(keys)), 0))
    rank = np.arange(len(keys)) - bucket_start
    later = np.arange(len(keys))
    for back in range(1, min(_LATEST, int(rank.max())) + 1):
        later = later[rank[later] >= back]
        yield order[later - back], order[later]
    for first in range(_FIRST):
        later = later[rank[later] > _LATEST + first]
        if len(later):
            yield order[bucket_start[later] + first], order[later]
