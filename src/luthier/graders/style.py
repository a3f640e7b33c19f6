"""Voice: does the answer sound like the training answers?

A profile is learned from the training answers (or from `examples`): for each habit of prose - function words,
punctuation, lengths, readability - its mean and spread. An answer is as far from the profile as its habits are on the
average, in spreads (Burrows's Delta; 2002, doi 10.1093/llc/17.3.267). One short answer shows little of a voice, so
the figure to look at is `distance`: that of all answers together. Made for English.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from luthier.core.errors import SettingsError
from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.prose import HABITS, habits

_FAR = 3.0
_MOST_HABITS = 5
# A habit that hardly ever varies in the examples would make the smallest slip a large one.
_LEAST_SPREAD = {"words": 0.5, "sentence_words": 2.0, "word_letters": 0.4, "readability": 15.0}
_LEAST_SHARE = 0.05


class Usual(NamedTuple):
    """How a habit is in the examples."""

    mean: float
    spread: float


Profile = dict[str, Usual]


@dataclass(frozen=True)
class Grader:
    """1 if the habits of the answer are those of the examples on average, 0 if all are three spreads away or more."""

    meaning = "likeness of the answers' style to that of the training answers, 0 to 1"

    examples: Path | None = None
    """A text file of answers in the right voice, an empty line between two; learned from the training answers when absent."""
    answers: tuple[str, ...] = field(default=(), repr=False)
    """Answers in the right voice, given in a file of settings."""

    def __post_init__(self) -> None:
        """Learn from the examples; raise SettingsError if there are none in the file."""
        _ = self._profile

    @property
    def needs_answer(self) -> bool:
        """Without examples an answer is compared with its wanted text alone."""
        return self._profile is None

    def learned(self, answers: Sequence[str]) -> "Grader":
        """Return the grader that knows the voice of these answers; examples that the user gave come first."""
        return self if self.examples or self.answers else replace(self, answers=tuple(answers))

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion by its distance from the profile, or from the wanted text where none was learned."""
        profile = self._profile or profile_of([answer])
        figures = habits(completion)
        far = [min(_FAR, abs(_spreads(figures[name], profile[name]))) for name in HABITS]
        wanted = {} if self._profile else {"wanted": _rounded(habits(answer))}
        return Grade(1 - statistics.fmean(far) / _FAR, {"habits": _rounded(figures), **wanted})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return how far the answers' mean habits are from the usual ones, in spreads, and the habits farthest off."""
        profile = self._profile or _profile([_habits(grade, "wanted") for grade in grades])
        means = _profile([_habits(grade, "habits") for grade in grades])
        off = {name: _spreads(means[name].mean, profile[name]) for name in HABITS}
        farthest = sorted(HABITS, key=lambda name: (-abs(off[name]), name))[:_MOST_HABITS]
        return {
            "distance": statistics.fmean(map(abs, off.values())),
            "farthest": {
                name: {"answers": means[name].mean, "usual": profile[name].mean, "spreads": off[name]}
                for name in farthest
            },
        }

    @cached_property
    def _profile(self) -> Profile | None:
        texts = [*self.answers, *(_texts(self.examples) if self.examples else ())]
        return profile_of(texts) if texts else None


def profile_of(texts: Sequence[str]) -> Profile:
    """Return how each habit is in some texts; at least one."""
    return _profile([habits(text) for text in texts])


def _profile(rows: Sequence[dict[str, float]]) -> Profile:
    profile: Profile = {}
    for name in HABITS:
        values = [row[name] for row in rows]
        mean = statistics.fmean(values)
        spread = statistics.pstdev(values, mean)
        profile[name] = Usual(mean, max(spread, _LEAST_SPREAD.get(name, _LEAST_SHARE)))
    return profile


def _spreads(value: float, usual: Usual) -> float:
    return (value - usual.mean) / usual.spread


def _rounded(figures: dict[str, float]) -> dict[str, JsonValue]:
    """Keep what is not zero, in few digits: the marks of every answer are stored."""
    return {name: round(value, 4) for name, value in figures.items() if value}


def _habits(grade: Grade, mark: str) -> dict[str, float]:
    kept = grade.marks[mark]
    assert isinstance(kept, dict)
    values = {name: value for name, value in kept.items() if isinstance(value, int | float)}
    return {name: float(values.get(name, 0.0)) for name in HABITS}


def _texts(file: Path) -> list[str]:
    try:
        texts = [text.strip() for text in file.read_text(encoding="utf-8").split("\n\n") if text.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"style.examples: {file} cannot be read: {error}.") from error
    if not texts:
        raise SettingsError(f"style.examples: {file} holds no text.")
    return texts
