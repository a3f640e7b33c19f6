"""Texts within texts: does the answer say the wanted text, or what the settings ask for?

Spaces and line ends are the same, however many. A word counts only as a whole: `cat` is not in `category`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.phrases import Phrases


@dataclass(frozen=True)
class Grader:
    """1 if the answer contains the wanted text, or the given texts; else 0."""

    meaning = "share of answers that contain what was asked for"

    texts: tuple[str, ...] = ()
    """What the answer must contain; the wanted text of the row when empty."""
    need: Literal["all", "any"] = "all"
    """Whether all the texts must be there or one is enough."""
    ignore_case: bool = True
    """Whether capital and small letters are the same."""
    whole_words: bool = True
    """Whether a text that begins or ends with a letter or digit must begin or end there as a word."""

    @property
    def needs_answer(self) -> bool:
        """The wanted text matters only where no texts are given."""
        return not self.texts

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion by what it contains; a wanted text that is empty is contained in any."""
        said = Phrases(completion, ignore_case=self.ignore_case, whole_words=self.whole_words)
        missing = [text for text in self.texts or (answer,) if not said.have(text)]
        enough = not missing if self.need == "all" else len(missing) < len(self.texts or (answer,))
        return Grade(float(enough), {"missing": [*missing]})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the share of answers that contain enough, and for given texts the share that misses each."""
        shares: dict[str, JsonValue] = {}
        for text in self.texts:
            shares[text] = sum(_misses(grade, text) for grade in grades) / len(grades)
        score = sum(grade.score for grade in grades) / len(grades)
        return {"contains": score, "missing": shares} if shares else {"contains": score}


def _misses(grade: Grade, text: str) -> bool:
    missing = grade.marks["missing"]
    return isinstance(missing, list) and text in missing
