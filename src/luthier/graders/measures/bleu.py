"""BLEU of one text or of many (Papineni et al. 2002, https://aclanthology.org/P02-1040), as sacrebleu computes it by default."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from luthier.core.counts import Counts
from luthier.graders.measures.sequences import ngram_overlap
from luthier.graders.measures.words import bleu_words

ORDER = 4


class BleuCounts(NamedTuple):
    """What BLEU is computed from: the counts of each order, and both lengths in tokens."""

    orders: tuple[Counts, ...]
    predicted: int
    wanted: int

    def plus(self, other: "BleuCounts") -> "BleuCounts":
        """Return the sum, which is what the BLEU of a corpus is computed from."""
        orders = tuple(mine.plus(its) for mine, its in zip(self.orders, other.orders, strict=True))
        return BleuCounts(orders, self.predicted + other.predicted, self.wanted + other.wanted)


NOTHING = BleuCounts((Counts(),) * ORDER, 0, 0)


def bleu_counts(completion: str, answer: str) -> BleuCounts:
    """Count the n-grams of one completion and of its wanted text."""
    predicted, wanted = bleu_words(completion), bleu_words(answer)
    orders = tuple(ngram_overlap(predicted, wanted, order) for order in range(1, ORDER + 1))
    return BleuCounts(orders, len(predicted), len(wanted))


def bleu(counts: BleuCounts, *, sentence: bool) -> float:
    """Return BLEU from 0 to 100; of one sentence only the orders count that it is long enough for.

    Orders without a match are smoothed exponentially, sacrebleu's `exp`.
    """
    if not any(order.hits for order in counts.orders):
        return 0.0
    logs = _log_precisions(counts.orders)
    if not sentence and len(logs) < ORDER:
        return 0.0
    brevity = min(0.0, 1 - counts.wanted / counts.predicted)
    return 100 * math.exp(brevity + sum(logs) / len(logs))


def _log_precisions(orders: Sequence[Counts]) -> list[float]:
    logs: list[float] = []
    halved = 1.0
    for order in orders:
        if not order.predicted:
            break
        if not order.hits:
            halved *= 2
        logs.append(math.log((order.hits or 1 / halved) / order.predicted))
    return logs
