"""Words in common: how many words of the wanted text are in the answer, and how many others?

Words are compared as SQuAD does (Rajpurkar et al. 2016, arXiv 1606.05250): without case, punctuation and the English articles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.counts import Counts
from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.sequences import counts_from, overlap
from luthier.graders.measures.words import squad_words


@dataclass(frozen=True)
class Grader:
    """The F1 of the answer's words against those of the wanted text, from 0 to 1."""

    meaning = "F1 of the words of each answer, averaged over the answers"

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion; where a side has no words, only the same on the other side is right."""
        predicted, wanted = squad_words(completion), squad_words(answer)
        counts = overlap(predicted, wanted)
        same = predicted == wanted
        score = counts.f1 if predicted and wanted else float(same)
        return Grade(score, {"words": [*counts], "exact": same})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the mean F1, precision and recall over all words, and the share with exactly the wanted words."""
        total = Counts()
        for grade in grades:
            total = total.plus(counts_from(grade.marks["words"]))
        return {
            "token_f1": sum(grade.score for grade in grades) / len(grades),
            "word_precision": total.precision,
            "word_recall": total.recall,
            "exact_words": sum(bool(grade.marks["exact"]) for grade in grades) / len(grades),
        }
