"""Did the long prompt go into the weights? The tuned model without it against the model under it, and the bill of both."""

from rich.table import Table
from rich.text import Text

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.figures import ends, number, objects, scale_of

_BILL = ("tokens_in", "tokens_out", "latency_p50", "requests_per_second", "money_per_1000")
_BILL_WORDS = {
    "tokens_in": "tokens of prompt a request", "tokens_out": "tokens of answer a request", "latency_p50": "seconds for one request",
    "requests_per_second": "requests a second", "money_per_1000": "money per 1,000 requests",
}  # fmt: skip


def distilled(verdict: JsonObject, teacher: str, right_answers: bool) -> JsonObject:
    """Return the outcome with its sentence, the difference and the bill.

    `teacher` is the arm that answers under the long prompt, `tuned` the one without it. Without `right_answers` the wanted
    answers are the teacher's own, and a score says how often the two agree, not how often they are right.

    | outcome | when |
    |---|---|
    | `distilled` | the tuned model is better than the prompted one, equivalent or not worse, and reads fewer tokens |
    | `nothing saved` | the same, but it reads no fewer tokens |
    | `keep the prompt` | it is worse |
    | `undecided` | the test rows cannot tell |
    | `refused` | the verdict of the run is refused |
    """
    arms = objects(verdict["arms"])
    before, after = (_bill(arms[name]) for name in (teacher, "tuned"))
    difference = _difference(verdict, teacher)
    saved = 1 - number(after, "tokens_in") / max(1e-9, number(before, "tokens_in"))
    outcome = _outcome(str(verdict["outcome"]), str(difference["outcome"]), saved)
    because = (
        verdict["because"] if outcome == "refused" else _because(verdict, teacher, difference, right_answers, saved)
    )
    return {
        "outcome": outcome, "because": because, "next": _next(outcome, difference), "right_answers": right_answers,
        "grader": verdict["grader"], "score_before": objects(arms[teacher])["score"], "score_after": objects(arms["tuned"])["score"],
        "difference": difference, "before": before, "after": after, "prompt_tokens_saved": saved,
    }  # fmt: skip


def distilled_table(found: JsonObject) -> Table:
    """Return the same for a person: what is before, what is after, and the sentence."""
    scale = scale_of(str(found["grader"]), lower_is_better=False)
    table = Table(caption=Text(f"{found['because']}\n{found['next']}"), caption_justify="left", caption_style="bold")
    table.add_column("")
    for heading in ("under the long prompt", "distilled"):
        table.add_column(heading, justify="right")
    scores = (scale.score(number(found, "score_before")), scale.score(number(found, "score_after")))
    table.add_row(scale.name if found["right_answers"] else f"{scale.name} against the long prompt's answers", *scores)
    before, after = objects(found["before"]), objects(found["after"])
    for key in _BILL:
        if before[key] is not None or after[key] is not None:
            table.add_row(_BILL_WORDS[key], _figure(before[key]), _figure(after[key]))
    return table


def _bill(arm: JsonValue) -> JsonObject:
    cost = objects(objects(arm)["cost"])
    return {key: cost[key] for key in _BILL}


def _difference(verdict: JsonObject, teacher: str) -> JsonObject:
    differences = verdict["differences"]
    assert isinstance(differences, list)
    return next(one for one in map(objects, differences) if one["a"] == "tuned" and one["b"] == teacher)


def _outcome(of_run: str, of_difference: str, saved: float) -> str:
    if of_run == "refused":
        return "refused"
    if of_difference == "undecided":
        return "undecided"
    if of_difference == "worse":
        return "keep the prompt"
    return "distilled" if saved > 0 else "nothing saved"


def _because(verdict: JsonObject, teacher: str, difference: JsonObject, right_answers: bool, saved: float) -> str:
    scale, arms = scale_of(str(verdict["grader"]), lower_is_better=False), objects(verdict["arms"])
    before, after = (scale.score(number(arms[name], "score")) for name in (teacher, "tuned"))
    measured = (
        f"{scale.name} {after} without the long prompt, {before} with it" if right_answers
        else f"measured against the long prompt's own answers, not against right ones, {scale.name} {after} without it"
    )  # fmt: skip
    tokens = [number(objects(objects(arms[name])["cost"]), "tokens_in") for name in (teacher, "tuned")]
    return (
        f"On the sealed inputs: {measured}; the difference is {scale.gap(number(difference, 'value'))} (95 % interval "
        f"{scale.gap_interval(ends(difference))}): {difference['outcome']}. A request takes {tokens[1]:,.0f} tokens of prompt in place "
        f"of {tokens[0]:,.0f} ({100 * saved:.0f} % fewer)."
    )


def _next(outcome: str, difference: JsonObject) -> str:
    more = difference.get("more_rows")
    return {
        "distilled": "Serve the tuned model without the long prompt.",
        "nothing saved": "The prompt that is left is as long as the one that went in; give a shorter one with --short, or none.",
        "keep the prompt": "Keep the long prompt, or give more inputs.",
        "undecided": f"Give more inputs: about {more:,} more test rows would decide."
        if isinstance(more, int)
        else "Give more inputs.",
        "refused": "See the report of the run.",
    }[outcome]


def _figure(value: JsonValue) -> str:
    return (
        "" if value is None else f"{float(str(value)):,.3g}" if float(str(value)) < 100 else f"{float(str(value)):,.0f}"
    )
