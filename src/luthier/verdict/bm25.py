"""Okapi BM25: how well texts answer a query by the words that they share.

The formula is that of Robertson and Zaragoza 2009 (The Probabilistic Relevance Framework, section 3) with the logarithm
that Lucene uses, which is never negative. All that does not depend on the query is computed once, so that a query
is the sum of a few columns of a sparse matrix (Lu 2024, BM25S, arXiv 2407.03618).

N is the number of texts, W the number of different words.
"""

import re
from array import array
from collections.abc import Collection, Sequence

import numpy as np
from scipy.sparse import csc_matrix

from luthier.data.normal import normalized

K1 = 1.5
B = 0.75
# Scripts that put no space between words: each pair of neighbouring characters stands for one.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{2,}")


class Bm25:
    """An index of texts; `weight_NW` holds what each word adds to the score of each text."""

    def __init__(self, texts: Sequence[str], k1: float = K1, b: float = B) -> None:
        self._num_texts = len(texts)
        counts_NW, self._column = _counts(texts)
        length_N = np.asarray(counts_NW.sum(axis=1)).ravel()
        present_W = np.diff(np.asarray(counts_NW.indptr))
        rarity_W = np.log1p((len(texts) - present_W + 0.5) / (present_W + 0.5))
        norm_N = k1 * (1 - b + b * length_N / max(1e-9, float(length_N.mean()) if len(texts) else 0.0))
        column_of = np.repeat(np.arange(len(present_W)), present_W)
        weight = rarity_W[column_of] * counts_NW.data * (k1 + 1) / (counts_NW.data + norm_N[counts_NW.indices])
        self.weight_NW = csc_matrix((weight, counts_NW.indices, counts_NW.indptr), shape=counts_NW.shape)

    def scores(self, query: str) -> np.ndarray:
        """Return the score of every text; a word that the query repeats counts as often."""
        score_N = np.zeros(self._num_texts)
        starts: np.ndarray = np.asarray(self.weight_NW.indptr)
        texts: np.ndarray = np.asarray(self.weight_NW.indices)
        for column in filter(None, (self._column.get(word) for word in words(query))):
            of_word = slice(starts[column], starts[column + 1])
            score_N[texts[of_word]] += self.weight_NW.data[of_word]
        return score_N

    def best(self, query: str, most: int, without: Collection[int] = ()) -> list[int]:
        """Return the places of the texts that share a word with the query, best first, ties in their own order; none of `without`."""
        score_N = self.scores(query)
        score_N[list(without)] = 0
        found = np.flatnonzero(score_N)
        if len(found) > most:
            least = np.partition(score_N[found], -most)[-most]
            found = found[score_N[found] >= least]
        return found[np.argsort(-score_N[found], kind="stable")][:most].tolist()


def words(text: str) -> list[str]:
    """Return the words of a text as the index knows them: case, accents and punctuation folded away."""
    return [piece for word in normalized(text).split() for piece in _pieces(word)]


def _pieces(word: str) -> list[str]:
    if not _UNSPACED.search(word):
        return [word]
    return [word[place : place + 2] for place in range(len(word) - 1)]


def _counts(texts: Sequence[str]) -> tuple[csc_matrix, dict[str, int]]:
    """Count the words of every text; column 0 belongs to no word, so that every column's number is true."""
    column: dict[str, int] = {}
    rows, columns = array("i"), array("i")
    for place, text in enumerate(texts):
        for word in words(text):
            rows.append(place)
            columns.append(column.setdefault(word, len(column) + 1))
    shape = (len(texts), len(column) + 1)
    counts_NW = csc_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    counts_NW.sum_duplicates()
    return counts_NW, column
