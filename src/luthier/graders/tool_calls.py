"""Tool calls: does the answer call the wanted tools with the wanted arguments?

Calls are read as OpenAI writes them (`tool_calls`, `function`, arguments as an object or as JSON text), as bare
`{"name", "arguments"}` objects, alone, in a list or one a line, and between `<tool_call>` marks. Arguments are compared
by type and value, keys in any order; calls may come in any order. That two different calls would do the same is not seen.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.counts import Counts
from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.calls import Call, NotCalls, calls_in
from luthier.graders.measures.sequences import counts_from, overlap


@dataclass(frozen=True)
class Grader:
    """The F1 of the calls, each right only with name and all arguments; text is right where no call is wanted."""

    meaning = "F1 of the tool calls of each answer, averaged over the answers"

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade the calls in one completion against those in the wanted answer."""
        try:
            wanted = calls_in(answer)
        except NotCalls:
            wanted = []
        try:
            predicted, readable = calls_in(completion), True
        except NotCalls:
            predicted, readable = [], False
        calls = overlap(predicted, wanted)
        score = calls.f1 if predicted or wanted else float(readable)
        names = overlap([call.name for call in predicted], [call.name for call in wanted])
        return Grade(
            score,
            {"readable": readable, "calls": [*calls], "names": [*names], "arguments": [*_arguments(predicted, wanted)]},
        )

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the shares of right and of readable answers, and micro P/R/F1 of calls, names and arguments.

        Arguments are counted where the tool's name is right, so that they tell something of their own.
        """
        totals = dict.fromkeys(("calls", "names", "arguments"), Counts())
        for grade in grades:
            totals = {name: total.plus(counts_from(grade.marks[name])) for name, total in totals.items()}
        return {
            "exact": sum(grade.score == 1 for grade in grades) / len(grades),
            "readable": sum(bool(grade.marks["readable"]) for grade in grades) / len(grades),
            "groups": {name: total.as_metrics() for name, total in totals.items() if total.wanted},
        }


def _arguments(predicted: Sequence[Call], wanted: Sequence[Call]) -> Counts:
    """Count the arguments of calls whose tool is called on both sides."""
    shared = {call.name for call in predicted} & {call.name for call in wanted}
    left, right = (
        Counter((call.name, *pair) for call in calls if call.name in shared for pair in call.arguments)
        for calls in (predicted, wanted)
    )
    return Counts((left & right).total(), left.total(), right.total())
