"""The verdict in one sentence: does the tuned model pay, and how sure is that?

Tuning has to beat the best of everything else that was tried. Where it is proven equal or worse the
answer is to leave it, and where the test rows cannot tell, the answer is that they cannot tell.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.figures import ARM_NAMES, Scale, ends, number

Outcome = Literal["tuned wins", "classical is enough", "tuning does not pay", "undecided"]

STARTER_CAUTION = (
    "The starter is a very small model: what it does untuned says little about what prompting a large model would do."
)


class Conclusion(NamedTuple):
    """The outcome, and the sentence that gives its reason with figures."""

    outcome: Outcome
    because: str


def conclude(
    arms: Mapping[str, JsonValue], differences: Sequence[JsonObject], scale: Scale, test_rows: int, starter: bool
) -> Conclusion:
    """Judge the arms of `verdict.json` by its differences; `starter` adds what that model cannot tell."""
    rival = best_rival(arms, scale)
    if "tuned" not in arms or rival is None:
        return Conclusion("undecided", _nothing_to_compare(arms, scale, test_rows))
    difference = _difference(differences, rival)
    outcome = _outcome(str(difference["outcome"]), rival)
    sentence = _sentence(outcome, arms, rival, difference, scale, test_rows)
    cautious = starter and not {"classical", "tuned", "endpoint"}.issuperset(arms)
    return Conclusion(outcome, f"{sentence} {STARTER_CAUTION}" if cautious else sentence)


def best_rival(arms: Mapping[str, JsonValue], scale: Scale) -> str | None:
    """Return the arm with the best score that is not the tuned one, or None."""
    sign = -1 if scale.lower_is_better else 1
    return max(
        (name for name in arms if name != "tuned"), key=lambda name: sign * number(arms[name], "score"), default=None
    )


def _difference(differences: Sequence[JsonObject], rival: str) -> JsonObject:
    found = [entry for entry in differences if entry["a"] == "tuned" and entry["b"] == rival]
    assert found, f"no difference between tuned and {rival}"
    return found[0]


def _outcome(of_tuned: str, rival: str) -> Outcome:
    if of_tuned == "better":
        return "tuned wins"
    if of_tuned in ("equivalent", "worse"):
        return "classical is enough" if rival == "classical" else "tuning does not pay"
    return "undecided"


def _sentence(
    outcome: Outcome, arms: Mapping[str, JsonValue], rival: str, difference: JsonObject, scale: Scale, test_rows: int
) -> str:
    tuned, other = scale.score(number(arms["tuned"], "score")), scale.score(number(arms[rival], "score"))
    name = ARM_NAMES.get(rival, rival)
    figures = f"{scale.name} {tuned} against {other} on {test_rows:,} test rows"
    sure = f"{scale.gap(number(difference, 'value'))}, 95 % interval {scale.gap_interval(ends(difference))}"
    if outcome == "tuned wins":
        return f"The tuned model beats the {name}, the best of the others: {figures} ({sure})."
    if outcome == "undecided":
        return f"These test rows cannot tell the tuned model from the {name}: {figures} ({sure})."
    relation = "is no better than" if difference["outcome"] == "equivalent" else "is worse than"
    advice = "use the classical model" if outcome == "classical is enough" else "do not tune for this"
    return f"The tuned model {relation} the {name}, so {advice}: {figures} ({sure})."


def _nothing_to_compare(arms: Mapping[str, JsonValue], scale: Scale, test_rows: int) -> str:
    if not arms:
        return "No arm was run on the test rows, so nothing can be said."
    name, arm = next(iter(arms.items()))
    figures = f"{scale.name} {scale.score(number(arm, 'score'))} on {test_rows:,} test rows"
    missing = "nothing to compare it with" if name == "tuned" else "no tuned model to compare it with"
    sure = f"95 % interval {scale.interval(ends(arm))}"
    return f"The {ARM_NAMES.get(name, name)} reaches {figures} ({sure}), and there is {missing}."
