"""The proof that no near-duplicate lies on two sides: an exact search that shares nothing with MinHash.

Two sets with a Jaccard similarity of t or more have at least t |A| shingles in common, so the other
set holds at least one of the rarest |A| - ceil(t |A|) + 1 shingles of A (the prefix filter of Chaudhuri,
Ganti and Kaushik 2006, "A primitive operator for similarity joins"). Looking those few up finds every pair.

Suffixes: S shingles, P pairs.
"""

import math

import numpy as np

from luthier.data.shingles import ShingleSets, distinct

_SETS_A_BATCH = 64


def crossing_pairs(
    sets: ShingleSets, held_out: np.ndarray, rest: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return every pair of a held-out set and one of the rest with at least `threshold` similarity.

    `held_out` and `rest` are places of sets, and so are the results.
    """
    owner_S, id_S = _postings(sets, rest)
    lefts, rights = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for start in range(0, len(held_out), _SETS_A_BATCH):
        left_P, right_P = _candidates(sets, held_out[start : start + _SETS_A_BATCH], owner_S, id_S, threshold)
        alike_P = sets.jaccard(left_P, right_P) >= threshold
        lefts.append(left_P[alike_P])
        rights.append(right_P[alike_P])
    return np.concatenate(lefts), np.concatenate(rights)


def _postings(sets: ShingleSets, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all shingles of the sets at `places` in rising order, with the set that each belongs to."""
    chosen = np.zeros(len(sets.members_N), dtype=bool)
    chosen[places] = True
    owner_S = np.repeat(np.arange(len(chosen)), sets.sizes_N)
    kept = chosen[owner_S]
    owner_S, id_S = owner_S[kept], sets.ids_S[kept]
    order = np.argsort(id_S, kind="stable")
    return owner_S[order], id_S[order]


def _candidates(
    sets: ShingleSets, places: np.ndarray, owner_S: np.ndarray, id_S: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    codes = [np.empty(0, dtype=np.int64)]
    num_sets = len(sets.members_N)
    for place in places.tolist():
        ids = sets.ids_S[sets.starts_N[place] : sets.starts_N[place + 1]]
        begins, ends = np.searchsorted(id_S, ids, side="left"), np.searchsorted(id_S, ids, side="right")
        # A hair below, so that rounding never asks for one shingle too many in common.
        needed = math.ceil(threshold * len(ids) - 1e-9)
        rarest = np.argsort(ends - begins, kind="stable")[: len(ids) - needed + 1]
        owners = distinct(np.concatenate([owner_S[begins[rare] : ends[rare]] for rare in rarest.tolist()]))
        codes.append(place * num_sets + owners)
    return np.divmod(np.concatenate(codes), num_sets)
