"""Free text: how much of the wanted wording is there?

The score is chrF (Popovic 2015, https://aclanthology.org/W15-3049): character n-grams of order 1 to
6 without spaces, beta 2, the orders averaged that occur on both sides, as sacrebleu computes it.
Word overlap is not truth: the figures say how alike two texts are, not which is right.
"""

from collections import Counter
from collections.abc import Sequence

from luthier.core.counts import Counts
from luthier.core.types import Grade, JsonValue
from luthier.graders.exact import normalized

CHAR_ORDER = 6
BETA = 2


class Grader:
    """The chrF of the answer against the wanted text, from 0 to 1."""

    meaning = "chrF of the answers against the wanted texts, 0 to 1"

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion against the wanted text."""
        statistics = chrf_statistics(completion, answer)
        marks: dict[str, JsonValue] = {
            "exact": completion == answer,
            "normalized": normalized(completion) == normalized(answer),
            "tokens": list(_overlap(completion.casefold().split(), answer.casefold().split())),
            "chrf": [list(order) for order in statistics],
        }
        return Grade(chrf(statistics) / 100, marks)

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the shares of exact answers, corpus chrF (0 to 100, from summed counts) and mean token F1."""
        corpus = [Counts()] * CHAR_ORDER
        token_f1 = 0.0
        for grade in grades:
            orders = [_counts(order) for order in _list(grade.marks["chrf"])]
            corpus = [total.plus(order) for total, order in zip(corpus, orders, strict=True)]
            token_f1 += _counts(grade.marks["tokens"]).f1
        return {
            "exact": sum(bool(grade.marks["exact"]) for grade in grades) / len(grades),
            "exact_normalized": sum(bool(grade.marks["normalized"]) for grade in grades) / len(grades),
            "chrf": chrf(corpus),
            "token_f1": token_f1 / len(grades),
        }


def chrf_statistics(completion: str, answer: str) -> list[Counts]:
    """Return for each n-gram order what `chrf` needs; the statistics of many texts add up."""
    left, right = "".join(completion.split()), "".join(answer.split())
    orders: list[Counts] = []
    for order in range(1, CHAR_ORDER + 1):
        counts = _overlap(_ngrams(left, order), _ngrams(right, order))
        # sacrebleu leaves an order out on both sides when the wanted text is too short for it.
        orders.append(counts if counts.wanted else Counts())
    return orders


def chrf(statistics: Sequence[Counts]) -> float:
    """Return chrF from 0 to 100 of the counts per order."""
    orders = [order for order in statistics if order.predicted and order.wanted]
    if not orders:
        return 0.0
    precision = sum(order.precision for order in orders) / len(orders)
    recall = sum(order.recall for order in orders) / len(orders)
    if not precision + recall:
        return 0.0
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _ngrams(text: str, order: int) -> list[str]:
    return [text[start : start + order] for start in range(len(text) - order + 1)]


def _overlap(predicted: Sequence[str], wanted: Sequence[str]) -> Counts:
    return Counts((Counter(predicted) & Counter(wanted)).total(), len(predicted), len(wanted))


def _counts(mark: JsonValue) -> Counts:
    hits, predicted, wanted = (value for value in _list(mark) if isinstance(value, int))
    return Counts(hits, predicted, wanted)


def _list(mark: JsonValue) -> list[JsonValue]:
    assert isinstance(mark, list), mark
    return mark
