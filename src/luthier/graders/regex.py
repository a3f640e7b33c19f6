"""Patterns: does the answer match a regular expression, or does what it captures equal the wanted text?

With `compare`, the first group of the match (or the whole match) is what is compared, so that an answer may
say more than the wanted text. A search that computes for over a second is given up and scores 0; see `too_slow`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.patterns import Found, compiled, search

if TYPE_CHECKING:
    import regex


@dataclass(frozen=True)
class Grader:
    """1 if the pattern is found in the answer (and captures the wanted text, if asked for), else 0."""

    meaning = "share of answers in which the pattern was found as asked"

    pattern: str
    """The regular expression, in Python's syntax."""
    where: Literal["anywhere", "whole"] = "anywhere"
    """Whether the pattern may match anywhere, or must match the whole answer without the spaces at its ends."""
    ignore_case: bool = False
    """Whether capital and small letters are the same."""
    compare: bool = False
    """Whether what was captured must equal the wanted text."""

    def __post_init__(self) -> None:
        """Compile the pattern; raise SettingsError if it is none."""
        assert self._compiled

    @property
    def needs_answer(self) -> bool:
        """The wanted text matters only where it is compared."""
        return self.compare

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion by the pattern."""
        found, match = search(self._compiled, completion.strip(), whole=self.where == "whole")
        marks: dict[str, JsonValue] = {"found": found.value}
        right = match is not None
        if match is not None and self.compare:
            captured = str((match[1] if match.re.groups else match[0]) or "").strip()
            marks["captured"] = captured
            right = captured == answer.strip()
        return Grade(float(right), marks)

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the share of right answers, of answers with a match, and of searches that were given up."""
        return {
            "right": sum(grade.score for grade in grades) / len(grades),
            "found": sum(grade.marks["found"] == Found.YES.value for grade in grades) / len(grades),
            "too_slow": sum(grade.marks["found"] == Found.TOO_SLOW.value for grade in grades) / len(grades),
        }

    @cached_property
    def _compiled(self) -> "regex.Pattern[str]":
        return compiled(self.pattern, "regex.pattern", ignore_case=self.ignore_case)
