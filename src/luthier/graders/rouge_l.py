"""ROUGE: how much of the wanted text does the answer say, in the same order?

ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013) is the F1 of the longest common subsequence of words; ROUGE-1 and
ROUGE-2 count words and pairs of words. Without stemming, as the package `rouge-score` computes them by default.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.sequences import counts_from, ngram_overlap, subsequence_overlap
from luthier.graders.measures.words import rouge_words


@dataclass(frozen=True)
class Grader:
    """The ROUGE-L F1 of the answer against the wanted text, from 0 to 1."""

    meaning = "ROUGE-L F1 of each answer, averaged over the answers"

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion against the wanted text; without words on both sides nothing is said, and that is 0."""
        predicted, wanted = rouge_words(completion), rouge_words(answer)
        longest = subsequence_overlap(predicted, wanted)
        marks: dict[str, JsonValue] = {f"rouge_{order}": [*ngram_overlap(predicted, wanted, order)] for order in (1, 2)}
        marks["rouge_l"] = [*longest]
        return Grade(longest.f1, marks)

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L, and the mean recall of ROUGE-L."""
        means: dict[str, JsonValue] = {
            name: sum(counts_from(grade.marks[name]).f1 for grade in grades) / len(grades)
            for name in ("rouge_1", "rouge_2", "rouge_l")
        }
        recall = sum(counts_from(grade.marks["rouge_l"]).recall for grade in grades) / len(grades)
        return means | {"rouge_l_recall": recall}
