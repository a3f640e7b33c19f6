"""The whole object: is the answer the wanted JSON value, with nothing more and nothing less?

The order of keys never matters and the order of lists does, unless `any_order`. Values are compared by type and value: 1 is
1.0, but neither "1" nor true; text is compared as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.types import Grade, JsonValue
from luthier.graders.json_fields import InvalidJson, parsed
from luthier.graders.measures.canonical import written


@dataclass(frozen=True)
class Grader:
    """1 if the answer is the wanted JSON value, else 0; a wanted text that is no JSON is compared as text."""

    meaning = "share of answers that are the wanted JSON value as a whole"

    any_order: bool = False
    """Whether the elements of lists may stand in any order."""

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion against the wanted value."""
        try:
            wanted = self._written(answer)
        except InvalidJson:
            wanted = None
        try:
            predicted = self._written(completion)
        except InvalidJson:
            return Grade(float(wanted is None and completion.strip() == answer.strip()), {"valid": False})
        return Grade(float(predicted == wanted), {"valid": True})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the share of right values and of valid JSON."""
        return {
            "exact": sum(grade.score for grade in grades) / len(grades),
            "json_valid": sum(bool(grade.marks["valid"]) for grade in grades) / len(grades),
        }

    def _written(self, text: str) -> str:
        return written(parsed(text), any_order=self.any_order)
