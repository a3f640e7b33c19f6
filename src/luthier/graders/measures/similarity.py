"""How alike two texts are, from 0 to 1, by the names that OpenAI's text_similarity grader gives the measures."""

from collections.abc import Callable

from luthier.core.counts import Counts
from luthier.graders.measures.bleu import bleu, bleu_counts
from luthier.graders.measures.sequences import common_subsequence, ngram_overlap, subsequence_overlap
from luthier.graders.measures.words import bleu_words, rouge_words

_LONGEST_FUZZY = 20_000
_GLEU_ORDERS = (1, 2, 3, 4)


def fuzzy(text: str, reference: str) -> float:
    """Return the share of characters in the longest common subsequence: rapidfuzz's `ratio` over 100.

    Only the first 20,000 characters of each text count, for the work grows with the product of the lengths.
    """
    left, right = text[:_LONGEST_FUZZY], reference[:_LONGEST_FUZZY]
    total = len(left) + len(right)
    return 2 * common_subsequence(left, right) / total if total else 1.0


def gleu(text: str, reference: str) -> float:
    """Return the sentence GLEU (Wu et al. 2016, arXiv 1609.08144): the smaller of n-gram precision and recall, orders 1 to 4."""
    predicted, wanted = bleu_words(text), bleu_words(reference)
    total = Counts()
    for order in _GLEU_ORDERS:
        total = total.plus(ngram_overlap(predicted, wanted, order))
    return min(total.precision, total.recall)


def sentence_bleu(text: str, reference: str) -> float:
    """Return sacrebleu's sentence BLEU over 100."""
    return min(1.0, bleu(bleu_counts(text, reference), sentence=True) / 100)


def rouge_l(text: str, reference: str) -> float:
    """Return the F1 of ROUGE-L."""
    return subsequence_overlap(rouge_words(text), rouge_words(reference)).f1


def rouge(order: int) -> Callable[[str, str], float]:
    """Return the measure that is the F1 of word n-grams of one order."""
    return lambda text, reference: ngram_overlap(rouge_words(text), rouge_words(reference), order).f1


SIMILARITIES: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy, "bleu": sentence_bleu, "gleu": gleu, "rouge_l": rouge_l,
    **{f"rouge_{order}": rouge(order) for order in range(1, 6)},
}  # fmt: skip
