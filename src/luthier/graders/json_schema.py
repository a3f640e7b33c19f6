"""A JSON schema: does the answer have the shape that the program behind it reads?

Drafts 4 to 2020-12, by the package `jsonschema`. The schema must hold everything that it refers to: nothing is fetched. A
pattern that takes over a second on an answer counts as not matched. Formats such as `date` are notes, as the standard has it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from luthier.core.types import Grade, JsonValue
from luthier.graders.json_fields import InvalidJson, parsed
from luthier.graders.measures.schema import Schema, read_schema

_MOST_FAULTS = 10


@dataclass(frozen=True)
class Grader:
    """1 if the answer is JSON that conforms to the schema, else 0."""

    meaning = "share of answers that conform to the JSON schema"

    schema: Path
    """The file with the JSON schema."""

    def __post_init__(self) -> None:
        """Read the schema; raise SettingsError if it is none, or refers to something outside itself."""
        assert self._schema

    @property
    def needs_answer(self) -> bool:
        """The wanted text is not looked at."""
        return False

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion by the schema; the mark `fault` says where it fails first."""
        try:
            value = parsed(completion)
        except InvalidJson:
            return Grade(0.0, {"valid": False, "fault": None})
        fault = self._schema.fault(value)
        return Grade(float(fault is None), {"valid": True, "fault": fault})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the shares of valid JSON and of conforming answers, and how often each fault comes first."""
        faults = Counter(str(grade.marks["fault"]) for grade in grades if grade.marks["fault"])
        return {
            "json_valid": sum(bool(grade.marks["valid"]) for grade in grades) / len(grades),
            "conforms": sum(grade.score for grade in grades) / len(grades),
            "faults": dict(faults.most_common(_MOST_FAULTS)),
        }

    @cached_property
    def _schema(self) -> Schema:
        return read_schema(self.schema)
