"""Exact match: the answer must be the wanted text, character by character.

Here also lives `normalized`, the one idea of "the same but for spelling" that graders share.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.types import Grade, JsonValue

_EDGES = "\"'`.\u2018\u2019\u201c\u201d"


@dataclass(frozen=True)
class Grader:
    """1 if the answer equals the wanted text, spaces at both ends aside; else 0."""

    meaning = "share of answers that equal the wanted text"

    forgive_spelling: bool = False
    """Whether case, spacing, Unicode form, and quotes or a full stop around the text are forgiven."""

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion against the wanted text."""
        exact, nearly = completion.strip() == answer.strip(), normalized(completion) == normalized(answer)
        return Grade(float(nearly if self.forgive_spelling else exact), {"exact": exact, "normalized": nearly})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the shares of exact answers, and of answers exact but for spelling."""
        return {
            "exact": sum(bool(grade.marks["exact"]) for grade in grades) / len(grades),
            "exact_normalized": sum(bool(grade.marks["normalized"]) for grade in grades) / len(grades),
        }


def normalized(text: str) -> str:
    """Return the text without differences of case, spacing, Unicode form, and quotes or full stop around it."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_EDGES).strip() or folded
