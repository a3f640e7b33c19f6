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
_SETS_A_BLOCK = 10_000
_TABLE = 1 << 22


def crossing_pairs(
    sets: ShingleSets, held_out: np.ndarray, rest: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return every pair of a held-out set and one of the rest with at least `threshold` similarity.

    `held_out` and `rest` are places of sets, and so are the results.
    """
    lefts, rights = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for block in range(0, len(held_out), _SETS_A_BLOCK):
        asked = held_out[block : block + _SETS_A_BLOCK]
        owner_S, id_S = _postings(sets, rest, distinct(sets.taken(asked)[1]))
        for start in range(0, len(asked), _SETS_A_BATCH):
            left_P, right_P = _candidates(sets, asked[start : start + _SETS_A_BATCH], owner_S, id_S, threshold)
            alike_P = sets.jaccard(left_P, right_P) >= threshold
            lefts.append(left_P[alike_P])
            rights.append(right_P[alike_P])
    return np.concatenate(lefts), np.concatenate(rights)


def _postings(sets: ShingleSets, places: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the `wanted` shingles of the sets at `places` in rising order, with the set that each belongs to."""
    # Most shingles are not wanted; a small table says so for nearly all of them without a search.
    maybe = np.zeros(_TABLE, dtype=bool)
    maybe[wanted & (_TABLE - 1)] = True
    owners, ids = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int32)]
    for start in range(0, len(places), _SETS_A_BLOCK):
        block = places[start : start + _SETS_A_BLOCK]
        owner_S, id_S = sets.taken(block)
        hits = np.flatnonzero(maybe[id_S & (_TABLE - 1)])
        found = np.searchsorted(wanted, id_S[hits])
        hits = hits[wanted[np.minimum(found, len(wanted) - 1)] == id_S[hits]]
        owners.append(block[owner_S[hits]])
        ids.append(id_S[hits])
    id_S = np.concatenate(ids)
    order = np.argsort(id_S, kind="stable")
    return np.concatenate(owners)[order], id_S[order]


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
