"""How like its nearest among some texts is each of others? Exact, by shared shingles; no pair of texts is looked at twice.

Suffixes: Q asked texts, N known ones, S shingles.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from scipy.sparse import csr_matrix

from luthier.data.normal import normalized
from luthier.data.shingles import ShingleSets, shingle_sets

_ASKED_AT_ONCE = 64


def nearest_likeness(asked: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Return for each asked text the highest Jaccard similarity with a known one, 0 where nothing is shared.

    Short texts are compared by pieces of words, long ones by runs of words, those between in both ways.
    """
    best_Q = np.zeros(len(asked))
    if asked and known:
        for kind in shingle_sets(map(normalized, chain(known, asked))):
            _raise(best_Q, kind, len(known))
    return best_Q


def _raise(best_Q: np.ndarray, sets: ShingleSets, num_known: int) -> None:
    """Raise the likeness of the asked texts to what this kind of shingles finds; known texts come first."""
    known = np.flatnonzero(sets.members_N < num_known)
    asked = np.flatnonzero(sets.members_N >= num_known)
    if not len(known) or not len(asked):
        return
    distinct_S, column_S = np.unique(sets.ids_S, return_inverse=True)
    shape = (len(sets.members_N), len(distinct_S))
    holds = csr_matrix((np.ones(len(column_S), dtype=np.int32), column_S, sets.starts_N), shape=shape)
    of_known = holds[known].T.tocsr()
    for start in range(0, len(asked), _ASKED_AT_ONCE):
        places = asked[start : start + _ASKED_AT_ONCE]
        shared = (holds[places] @ of_known).tocoo()
        whole = sets.sizes_N[places[shared.row]] + sets.sizes_N[known[shared.col]] - shared.data
        np.maximum.at(best_Q, sets.members_N[places[shared.row]] - num_known, shared.data / whole)
