"""What a file is made of before anyone knows what it means: records and broken records, in order."""

from collections.abc import Iterator
from dataclasses import dataclass

from luthier.core.types import JsonObject


@dataclass(frozen=True, slots=True)
class Record:
    """One readable record; `line` is the 1-based physical line on which it begins."""

    line: int
    value: JsonObject


@dataclass(frozen=True, slots=True)
class Broken:
    """One record that is there but cannot be read, with the rule that it breaks."""

    line: int
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one file; `description` says in words how they were read ("CSV with ';'")."""

    description: str
    items: Iterator[Record | Broken]
