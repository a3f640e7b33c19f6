"""Interpolated modified Kneser-Ney over token ids: the yardstick that a trained starter has to beat.

Follows Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling"
(1999), section 3: three discounts an order (one for n-grams seen once, twice, three times or
more), lower orders by continuation counts, the lowest interpolated with the uniform
distribution. Counts live in sorted numpy arrays; an n-gram is the pair (place of its context
among the known contexts, last token), so that it fits in 64 bits at any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class _Order:
    """The n-grams of one order in sorted order, and what their contexts need for smoothing.

    `keys_N` are context * vocab_size + token; `context` is the index of the (n-1)-gram that they
    extend, counted in that order's own sorted array; the arrays over contexts are dense.
    """

    keys_N: np.ndarray
    adjusted_N: np.ndarray
    totals_C: np.ndarray
    backoffs_C: np.ndarray
    discounts: np.ndarray


class KneserNey:
    """A smoothed n-gram model of token sequences; contexts never reach over the start of a sequence."""

    def __init__(self, sequences: Sequence[np.ndarray], vocab_size: int, order: int = 5) -> None:
        self.vocab_size = vocab_size
        ids_by_order = _ngram_ids(sequences, vocab_size, order)
        adjusted = _adjusted_counts(ids_by_order, sequences, vocab_size)
        num_contexts = [1, *(len(keys) for keys, _ in ids_by_order[:-1])]
        self._orders = [
            _order(keys, counts, vocab_size, contexts)
            for (keys, _), counts, contexts in zip(ids_by_order, adjusted, num_contexts)
        ]

    def probabilities(self, tokens_L: np.ndarray) -> np.ndarray:
        """Return p(token | the tokens before it) for every token but the first, float64."""
        length = len(tokens_L)
        tokens = tokens_L.astype(np.int64)
        out_L = np.full(length, 1.0 / self.vocab_size)
        context_L = np.zeros(length, dtype=np.int64)
        for size, order in enumerate(self._orders, start=1):
            # At order n the context is the (n-1)-gram that ends right before the token.
            known_L = (context_L >= 0) & (np.arange(length) >= size - 1)
            place_L = np.where(known_L, context_L, 0)
            seen_L = known_L & (order.totals_C[place_L] > 0)
            index_L = _find(order.keys_N, place_L * self.vocab_size + tokens)
            count_L = np.where(index_L >= 0, order.adjusted_N[index_L], 0)
            total_L = np.maximum(order.totals_C[place_L], 1)
            own_L = np.maximum(count_L - order.discounts[np.minimum(count_L, 3)], 0) / total_L
            out_L = np.where(seen_L, own_L + order.backoffs_C[place_L] * out_L, out_L)
            ngram_L = np.where(known_L, index_L, -1)
            context_L = np.concatenate([[-1], ngram_L[:-1]])
        return out_L[1:]

    def bits(self, tokens_L: np.ndarray) -> float:
        """Return the code length in bits of all tokens but the first."""
        return float(-np.log2(self.probabilities(tokens_L)).sum())


def _ngram_ids(sequences: Sequence[np.ndarray], vocab_size: int, order: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each order the sorted distinct keys and how often each occurs."""
    tokens = np.concatenate(sequences).astype(np.int64)
    begins = np.concatenate([np.arange(len(sequence)) for sequence in sequences])
    found = []
    context = np.zeros(len(tokens), dtype=np.int64)
    for size in range(1, order + 1):
        whole = begins >= size - 1
        keys, inverse, counts = np.unique(
            context[whole] * vocab_size + tokens[whole], return_inverse=True, return_counts=True
        )
        found.append((keys, counts))
        ngram = np.full(len(tokens), -1, dtype=np.int64)
        ngram[whole] = inverse
        context = np.concatenate([[-1], ngram[:-1]])
    return found


def _adjusted_counts(
    ids_by_order: list[tuple[np.ndarray, np.ndarray]], sequences: Sequence[np.ndarray], vocab_size: int
) -> list[np.ndarray]:
    """Return the counts to smooth: true ones at the highest order, below it how many tokens stand before an n-gram.

    An n-gram at the start of a sequence has nothing before it and keeps its true count there, but
    for the first token itself, which is given and never predicted.
    """
    order = len(ids_by_order)
    suffix = _suffix_places(ids_by_order, vocab_size)
    adjusted: list[np.ndarray] = []
    for size in range(1, order):
        counts = np.bincount(suffix[size], minlength=len(ids_by_order[size - 1][0]))
        adjusted.append(counts if size == 1 else counts + _start_counts(sequences, ids_by_order, size, vocab_size))
    adjusted.append(ids_by_order[-1][1])
    return adjusted


def _suffix_places(ids_by_order: list[tuple[np.ndarray, np.ndarray]], vocab_size: int) -> list[np.ndarray]:
    """Return for each order n the place, among the (n-1)-grams, of each n-gram without its first token."""
    places: list[np.ndarray] = [np.zeros(len(ids_by_order[0][0]), dtype=np.int64)]
    for size in range(2, len(ids_by_order) + 1):
        keys = ids_by_order[size - 1][0]
        context, token = keys // vocab_size, keys % vocab_size
        # The suffix of (context, token) is (suffix of context, token), one order lower.
        shorter = places[size - 2][context] * vocab_size + token
        places.append(np.searchsorted(ids_by_order[size - 2][0], shorter))
    return places


def _start_counts(
    sequences: Sequence[np.ndarray], ids_by_order: list[tuple[np.ndarray, np.ndarray]], size: int, vocab_size: int
) -> np.ndarray:
    """Count the n-grams of one size that open a sequence."""
    heads = np.array([sequence[:size] for sequence in sequences if len(sequence) >= size], dtype=np.int64)
    context = np.zeros(len(heads), dtype=np.int64)
    for position in range(size):
        context = np.searchsorted(ids_by_order[position][0], context * vocab_size + heads[:, position])
    return np.bincount(context, minlength=len(ids_by_order[size - 1][0]))


def _order(keys: np.ndarray, counts: np.ndarray, vocab_size: int, num_contexts: int) -> _Order:
    discounts = _discounts(counts)
    context = keys // vocab_size
    totals = np.bincount(context, weights=counts, minlength=num_contexts)
    kept_back = np.bincount(context, weights=discounts[np.minimum(counts, 3)], minlength=num_contexts)
    return _Order(keys, counts, totals, kept_back / np.maximum(totals, 1), discounts)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Return D(0) = 0 and D1, D2, D3+ by Chen and Goodman's estimate (equation 26)."""
    once, twice, thrice, four = (int(np.count_nonzero(counts == number)) for number in (1, 2, 3, 4))
    if not (once and twice and thrice):  # too little text for the estimate: absolute discounting
        return np.array([0.0, 0.5, 0.75, 0.75])
    share = once / (once + 2 * twice)
    raw = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice]
    return np.array([0.0, *(min(max(value, 0.0), number) for number, value in enumerate(raw, start=1))])


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the place of each wanted key, or -1."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)
