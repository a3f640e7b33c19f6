"""JSON or not: can a program read the answer?

JSON as the standard has it (RFC 8259): one value, no code fence around it, no NaN, no comments, no trailing comma.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.core.types import Grade, JsonValue
from luthier.graders.json_fields import InvalidJson, parsed


@dataclass(frozen=True)
class Grader:
    """1 if the answer is valid JSON of the kind that is asked for, else 0."""

    meaning = "share of answers that are valid JSON"

    kind: Literal["object", "array", "any"] = "any"
    """What the JSON must be at its top."""

    @property
    def needs_answer(self) -> bool:
        """The wanted text is not looked at."""
        return False

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion by whether it parses."""
        try:
            kind = _kind(parsed(completion))
        except InvalidJson:
            kind = "invalid"
        return Grade(float(kind != "invalid" and self.kind in ("any", kind)), {"kind": kind})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the share of valid JSON, and how many answers are of each kind."""
        kinds = Counter(str(grade.marks["kind"]) for grade in grades)
        return {
            "json_valid": 1 - kinds["invalid"] / len(grades),
            "kinds": {kind: kinds[kind] for kind in sorted(kinds)},
        }


def _kind(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
