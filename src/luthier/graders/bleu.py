"""BLEU: how many runs of one to four words does the answer share with the wanted text?

As sacrebleu computes it by default (tokenization 13a, exponential smoothing). The score of an answer is its sentence
BLEU; the figure to report is `bleu`, computed from the counts of all answers together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.bleu import NOTHING, BleuCounts, bleu, bleu_counts
from luthier.graders.measures.sequences import counts_from


@dataclass(frozen=True)
class Grader:
    """The sentence BLEU of the answer against the wanted text, from 0 to 1."""

    meaning = "sentence BLEU of the answers, 0 to 1, averaged; corpus BLEU among the metrics"

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion against the wanted text."""
        counts = bleu_counts(completion, answer)
        marks: dict[str, JsonValue] = {
            "orders": [[*order] for order in counts.orders],
            "lengths": [counts.predicted, counts.wanted],
        }
        return Grade(min(1.0, bleu(counts, sentence=True) / 100), marks)

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return corpus BLEU from 0 to 100, and the length of the answers over that of the wanted texts."""
        total = NOTHING
        for grade in grades:
            total = total.plus(_counts(grade))
        return {
            "bleu": bleu(total, sentence=False),
            "length_ratio": total.predicted / total.wanted if total.wanted else 0.0,
        }


def _counts(grade: Grade) -> BleuCounts:
    orders, lengths = grade.marks["orders"], grade.marks["lengths"]
    assert isinstance(orders, list) and isinstance(lengths, list)
    predicted, wanted = (length for length in lengths if isinstance(length, int))
    return BleuCounts(tuple(counts_from(order) for order in orders), predicted, wanted)
