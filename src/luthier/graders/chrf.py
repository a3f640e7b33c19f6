"""Characters in common: chrF and chrF++ of the answer against the wanted text.

chrF (Popovic 2015, https://aclanthology.org/W15-3049) compares runs of one to six characters and needs no notion of a
word; chrF++ (Popovic 2017, https://aclanthology.org/W17-4770) adds words and pairs of words: `word_order=2`. As sacrebleu
computes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from luthier.core.counts import Counts
from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.sequences import counts_from, ngram_overlap
from luthier.graders.measures.words import chrf_words
from luthier.graders.text import chrf, chrf_statistics


@dataclass(frozen=True)
class Grader:
    """The chrF of the answer against the wanted text, from 0 to 1."""

    meaning = "chrF of each answer, 0 to 1, averaged; corpus chrF among the metrics"

    word_order: Annotated[int, Field(ge=0, le=4)] = 0
    """The longest run of words that counts beside those of characters; 2 gives chrF++."""

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion against the wanted text."""
        orders = [*chrf_statistics(completion, answer), *self._of_words(completion, answer)]
        return Grade(chrf(orders) / 100, {"orders": [[*order] for order in orders]})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return corpus chrF, from 0 to 100, from the counts of all answers together."""
        rows = [grade.marks["orders"] for grade in grades]
        total: list[Counts] = []
        for row in rows:
            assert isinstance(row, list)
            orders = [counts_from(order) for order in row]
            total = [mine.plus(its) for mine, its in zip(total, orders, strict=True)] if total else orders
        return {"chrf_plus_plus" if self.word_order else "chrf": chrf(total)}

    def _of_words(self, completion: str, answer: str) -> list[Counts]:
        predicted, wanted = chrf_words(completion), chrf_words(answer)
        counted = [ngram_overlap(predicted, wanted, order) for order in range(1, self.word_order + 1)]
        return [counts if counts.wanted else Counts() for counts in counted]
