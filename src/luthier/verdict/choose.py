"""Choose the grader by looking at the answers, and say why."""

from collections import Counter
from collections.abc import Callable, Sequence

from luthier.graders.json_fields import InvalidJson, parsed
from luthier.graders.number import is_number

MOST_SHARE = 0.95
_FEWEST_REPEATS = 3
_MOST_LABELS = 2000
_MOST_LABELS_OF_NUMBERS = 20
_LONGEST_LABEL = 80


def choose_grader(answers: Sequence[str]) -> tuple[str, str]:
    """Return the name of the grader that fits the wanted answers, and a sentence that says why."""
    assert answers
    objects, numbers = _share(answers, _is_object), _share(answers, is_number)
    distinct = Counter(answer.strip() for answer in answers)
    if objects >= MOST_SHARE:
        return (
            "json_fields",
            f"{100 * objects:.0f} % of the answers are JSON objects, so their fields are compared one by one.",
        )
    if numbers >= MOST_SHARE and len(distinct) > _MOST_LABELS_OF_NUMBERS:
        return (
            "number",
            f"{100 * numbers:.0f} % of the answers are numbers or end in one, so their values are compared.",
        )
    if are_labels(distinct):
        return "accuracy", (
            f"the {len(answers):,} answers are {_plural(len(distinct), 'short label')} that "
            "come again and again, so each is right or wrong."
        )
    if numbers >= MOST_SHARE:
        return (
            "number",
            f"{100 * numbers:.0f} % of the answers are numbers or end in one, so their values are compared.",
        )
    return "text", (
        f"the answers are free text ({len(distinct):,} different ones in {len(answers):,} rows), "
        "so their wording is compared."
    )


def are_labels(distinct: Counter[str]) -> bool:
    """Tell whether texts, with how often each occurs, are labels: short, few, and at most one row in twenty alone."""
    rows = distinct.total()
    alone = sum(times for times in distinct.values() if times == 1)
    few = len(distinct) <= max(2, min(_MOST_LABELS, rows // _FEWEST_REPEATS))
    short = all(len(answer) <= _LONGEST_LABEL and "\n" not in answer for answer in distinct)
    return few and short and rows > len(distinct) and (len(distinct) <= 2 or alone <= (1 - MOST_SHARE) * rows)


def _share(answers: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(holds(answer) for answer in answers) / len(answers)


def _is_object(text: str) -> bool:
    try:
        return isinstance(parsed(text), dict)
    except InvalidJson:
        return False


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
