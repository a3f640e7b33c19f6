"""Code that works: does the Python in the answer pass the tests?

The tests are the wanted text (`assert add(1, 2) == 3`), or the file `tests` for every row. The answer is the whole text, or
what stands in its first code fence. Code and tests run in a process of their own without network, with nothing to write to
but an empty folder, and within limits. Where the machine cannot isolate it, it is refused, unless `unsafe`. Code that sets
out to cheat the tests, rather than to pass them, can.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field

from luthier.core.errors import SettingsError
from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.sandbox import Limits, Task, ensure_isolation, execute, isolation_problem

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_MOST_FAULTS = 10


@dataclass(frozen=True)
class Grader:
    """1 if the code runs and every test passes, else 0."""

    meaning = "share of answers whose code passes the tests"

    tests: Path | None = None
    """A Python file that is run after each answer, in its place; the wanted text when absent."""
    seconds: Annotated[int, Field(gt=0)] = 10
    """The longest time that one answer may take, with its tests and the start of Python."""
    megabytes: Annotated[int, Field(ge=64)] = 1024
    """The most memory that one answer may take."""
    unsafe: bool = False
    """Whether code may run with your own rights where the machine cannot isolate it."""

    def __post_init__(self) -> None:
        """Read the tests; raise SettingsError where they are not there or nothing isolates the code."""
        _ = self._tests
        ensure_isolation("code_runs", unsafe=self.unsafe)

    @property
    def needs_answer(self) -> bool:
        """The wanted text holds the tests, unless a file does."""
        return self._tests is None

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Run one completion against its tests; the mark `fault` says how it failed."""
        tests = answer if self._tests is None else self._tests
        limits = Limits(self.seconds, self.megabytes, isolated=isolation_problem() is None)
        fault = execute(Task(code_in(completion), tests), limits).fault
        return Grade(float(fault is None), {"fault": fault})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the share of answers that pass, and how often each kind of fault came."""
        kinds = Counter(str(grade.marks["fault"]).partition(":")[0] for grade in grades if grade.marks["fault"])
        return {
            "passed": sum(grade.score for grade in grades) / len(grades),
            "faults": dict(kinds.most_common(_MOST_FAULTS)),
        }

    @cached_property
    def _tests(self) -> str | None:
        if self.tests is None:
            return None
        try:
            return self.tests.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"code_runs.tests: {self.tests} cannot be read: {error}.") from error


def code_in(completion: str) -> str:
    """Return what stands in the first code fence, or the whole text where there is none."""
    fenced = _FENCE.search(completion)
    return fenced[1] if fenced else completion
