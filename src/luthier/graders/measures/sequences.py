"""What two sequences share: n-grams, and the longest common subsequence. Fast enough for answers of a megabyte."""

from collections import Counter
from collections.abc import Hashable, Sequence

from luthier.core.counts import Counts
from luthier.core.types import JsonValue


def ngram_overlap(predicted: Sequence[Hashable], wanted: Sequence[Hashable], order: int) -> Counts:
    """Count the n-grams of one order on both sides, and those that they share."""
    return _overlap(_ngrams(predicted, order), _ngrams(wanted, order))


def overlap(predicted: Sequence[Hashable], wanted: Sequence[Hashable]) -> Counts:
    """Count the items of both sides as multisets, and those that they share."""
    return _overlap(Counter(predicted), Counter(wanted))


def subsequence_overlap(predicted: Sequence[Hashable], wanted: Sequence[Hashable]) -> Counts:
    """Count the items of both sides, and those of their longest common subsequence."""
    return Counts(common_subsequence(predicted, wanted), len(predicted), len(wanted))


def common_subsequence(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence.

    Bit-parallel (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): a row of the table is one integer, a bit
    an item of `left`, so that the work is the product of the lengths over the machine's word size.
    """
    places: dict[Hashable, int] = {}
    for place, item in enumerate(left):
        places[item] = places.get(item, 0) | (1 << place)
    full = (1 << len(left)) - 1
    unmatched = full
    for item in right:
        if mask := places.get(item):
            moved = unmatched & mask
            unmatched = ((unmatched + moved) | (unmatched - moved)) & full
    return len(left) - unmatched.bit_count()


def counts_from(mark: JsonValue) -> Counts:
    """Read counts back from the marks of a grade, where they are a list of three numbers."""
    assert isinstance(mark, list), mark
    hits, predicted, wanted = (value for value in mark if isinstance(value, int))
    return Counts(hits, predicted, wanted)


def _ngrams(items: Sequence[Hashable], order: int) -> Counter[Hashable]:
    return Counter(zip(*(items[start:] for start in range(order)), strict=False))


def _overlap(predicted: Counter[Hashable], wanted: Counter[Hashable]) -> Counts:
    return Counts((predicted & wanted).total(), predicted.total(), wanted.total())
