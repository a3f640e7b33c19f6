"""Length: is the answer as long as asked, or about as long as the wanted text?

With `least` or `most` an answer within them scores 1 and any other 0. Without, the score is the shorter length
over the longer one, so that an answer of half or twice the wanted length scores 0.5.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.core.errors import SettingsError
from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.prose import sentences


@dataclass(frozen=True)
class Grader:
    """1 within the given bounds and 0 outside; without bounds the shorter length over the longer."""

    meaning = "how well the length of the answers fits, 0 to 1"

    least: int | None = None
    """The fewest units that an answer may have."""
    most: int | None = None
    """The most units that an answer may have."""
    unit: Literal["characters", "words", "sentences", "lines"] = "words"
    """What is counted; lines that hold only spaces are not."""

    def __post_init__(self) -> None:
        """Raise SettingsError for bounds that no answer can keep."""
        least, most = self.least or 0, self.most
        if most is not None and not 0 <= least <= most:
            raise SettingsError(f"length: no answer has at least {least} and at most {most} {self.unit}.")

    @property
    def needs_answer(self) -> bool:
        """The wanted text matters only without bounds."""
        return self.least is None and self.most is None

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade the length of one completion."""
        length = self._length(completion)
        if not self.needs_answer:
            fits = (self.least or 0) <= length and (self.most is None or length <= self.most)
            return Grade(float(fits), {"length": length})
        wanted = self._length(answer)
        longer = max(length, wanted)
        return Grade(min(length, wanted) / longer if longer else 1.0, {"length": length, "wanted": wanted})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the mean and median length, and the shares too short and too long by the bounds or the wanted text."""
        lengths = [_count(grade, "length") for grade in grades]
        least = [_count(grade, "wanted") if self.needs_answer else self.least or 0 for grade in grades]
        most = [_count(grade, "wanted") if self.needs_answer else self.most for grade in grades]
        return {
            "mean_length": statistics.fmean(lengths),
            "median_length": float(statistics.median(lengths)),
            "too_short": sum(length < low for length, low in zip(lengths, least, strict=True)) / len(grades),
            "too_long": sum(high is not None and length > high for length, high in zip(lengths, most, strict=True))
            / len(grades),
        }

    def _length(self, text: str) -> int:
        match self.unit:
            case "characters":
                return len(text.strip())
            case "words":
                return len(text.split())
            case "sentences":
                return len(sentences(text))
            case "lines":
                return sum(not line.isspace() and bool(line) for line in text.splitlines())


def _count(grade: Grade, name: str) -> int:
    value = grade.marks[name]
    assert isinstance(value, int)
    return value
