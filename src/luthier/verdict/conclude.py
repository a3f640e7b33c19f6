"""The verdict in plain sentences: the outcome, what it rests on, and what to do next.

Which outcome it is stands in rules.py; here it is said with its figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.figures import ARM_NAMES, Scale, ends, number
from luthier.verdict.power import POWER
from luthier.verdict.rules import ENDPOINT, TRAINED, Decision, Gain, Outcome, Standing, decide

STARTER_CAUTION = (
    "The starter is a very small model: what it does untuned says little about what prompting a large model would do."
)
_MANY_LOOKS = 3
# An arm whose interval ends below this score does not do the task, whatever it gains over another.
_HARDLY_ANY = 0.1
_MOST_ROWS = 1_000_000
# So small a share of further rows says more about the estimate than about the rows.
_EDGE = 0.1
_ADVICE: Mapping[Outcome, str] = {
    "classical is enough": "use the classical model", "prompt is enough": "use the prompt",
    "use retrieval": "use retrieval", "tuning does not pay": "do not tune for this",
}  # fmt: skip
_NEXT: Mapping[Outcome, str] = {
    "tuned wins": "Use the package of this run: docs/commands/export.md.",
    "tune and retrieve": "Serve the package of this run together with the index that the arm was given.",
    "classical is enough": "Use a linear model over n-grams; it needs no language model at all.",
    "prompt is enough": "Put the prompt that choices.json names before the base model; tune when the task or the rows change.",
    "use retrieval": "Search the training rows or your knowledge for each question, and give the base model what was found.",
    "tuning does not pay": "Keep what answers best now. Better rows may change this: luthier check says what is wrong with these.",
    "undecided": "Bring more test rows (--test, or a larger split.test_rows), or say with --margin what a difference is worth.",
    "too noisy": "Mend the rows first: luthier check --fix; then run again.",
    "refused": "Split the data anew with luthier run, and leave the parts of a run folder as they are.",
}  # fmt: skip
_NEXT_WHERE_NONE_CAN = "Take a larger base model (luthier bases compares several), or bring more training rows; more test rows would only say more surely that no arm can."


@dataclass(frozen=True)
class Circumstances:
    """What a conclusion needs to know beside the arms and their differences.

    `doubted` is the share of rows whose answers the checks doubt, `most_doubted` the share at which the data count as
    noisy. `unsealed` says why the test part is no test, and `looks` how often these test rows were looked at. `since` says
    what is judged otherwise than was declared before the first look. `folds` is how many folds of the rows were answered by
    a model of their own, 0 for a test part; `seeds` what several training seeds gained, as in `verdict.json`.
    """

    scale: Scale
    test_rows: int
    margin: float
    starter: bool = False
    doubted: float = 0.0
    most_doubted: float = 1.0
    unsealed: str = ""
    looks: int = 1
    since: tuple[str, ...] = ()
    folds: int = 0
    seeds: JsonObject | None = None


@dataclass(frozen=True)
class Conclusion:
    """The outcome, the sentence that gives its reason with figures, what else it rests on, and what to do next."""

    outcome: Outcome
    because: str
    reasons: tuple[str, ...] = ()
    next: str = ""

    def as_entries(self) -> JsonObject:
        """Return what `verdict.json` says."""
        return {
            "outcome": self.outcome, "because": self.because, "reasons": list(self.reasons), "next": self.next,
        }  # fmt: skip


def conclude(arms: Mapping[str, JsonValue], differences: Sequence[JsonObject], about: Circumstances) -> Conclusion:
    """Judge the arms of `verdict.json` by its differences."""
    if about.unsealed:
        because = f"Nothing can be claimed: {about.unsealed}"
        return Conclusion("refused", because, next=_NEXT["refused"])
    standing = Standing(arms, differences, about.margin, about.scale.lower_is_better)
    decision = decide(standing)
    if decision.outcome == "undecided" and decision.arm and about.doubted > about.most_doubted:
        decision = replace(decision, outcome="too noisy")
    words = _Words(arms, standing, about)
    sentences = [words.because(decision)]
    if none_can := _none_can(arms, about.scale):
        sentences.append(none_can)
    if about.starter and not {"classical", *TRAINED, ENDPOINT}.issuperset(arms):
        sentences.append(STARTER_CAUTION)
    undecidable = none_can and decision.outcome in ("undecided", "too noisy")
    return Conclusion(
        decision.outcome, " ".join(sentences), words.reasons(decision),
        _NEXT_WHERE_NONE_CAN if undecidable else _NEXT[decision.outcome],
    )  # fmt: skip


def best_rival(arms: Mapping[str, JsonValue], scale: Scale) -> str | None:
    """Return the arm with the best score that is not a trained one, or None."""
    standing = Standing(arms, (), 0.0, scale.lower_is_better)
    return standing.best([name for name in arms if name not in TRAINED])


def _none_can(arms: Mapping[str, JsonValue], scale: Scale) -> str:
    """Say that no arm does the task where all of them surely score next to nothing; empty where one may not."""
    if scale.lower_is_better or not arms:
        return ""
    highest = max(ends(arm)[1] for arm in arms.values())
    return (
        f"No arm does this task: none reaches {scale.score(_HARDLY_ANY)}, even at the upper end of its interval."
        if highest < _HARDLY_ANY
        else ""
    )


def arm_name(arm: str) -> str:
    """Write an arm's name for people."""
    return ARM_NAMES.get(arm, arm)


class _Words:
    """Says decisions with the figures of their arms."""

    def __init__(self, arms: Mapping[str, JsonValue], standing: Standing, about: Circumstances) -> None:
        self._arms, self._standing, self._about = arms, standing, about

    def because(self, decision: Decision) -> str:
        """Return the sentence of an outcome."""
        arm, rival = decision.arm, decision.rival
        if arm is None:
            return self._nothing_to_compare()
        if rival is None:
            return f"The {arm_name(arm)} leaves nothing to gain that is worth the margin: {self._alone(arm)}."
        if decision.outcome in ("tuned wins", "tune and retrieve"):
            return self._won(arm, rival)
        if decision.outcome in ("undecided", "too noisy"):
            cannot = f"These test rows cannot tell the {arm_name(arm)} from the {arm_name(rival)}: {self._figures(arm, rival)}."
            return f"{cannot} {self._noise() if decision.outcome == 'too noisy' else self._more_rows(arm, rival)}"
        advice = _ADVICE[decision.outcome]
        if arm == ENDPOINT:
            return f"The {arm_name(rival)} is worse than the {arm_name(arm)}, so {advice}: {self._figures(rival, arm)}."
        return f"The {arm_name(rival)} {self._relation(rival, arm)} the {arm_name(arm)}, so {advice}: {self._figures(rival, arm)}."

    def _won(self, arm: str, rival: str) -> str:
        figures = self._figures(arm, rival)
        if rival != ENDPOINT:
            others = "untuned ones" if self._standing.endpoint else "others"
            return f"The {arm_name(arm)} beats the {arm_name(rival)}, the best of the {others}: {figures}."
        relation = "beats" if self._standing.gain(arm, rival).relation == "better" else "is not worse than"
        return f"The {arm_name(arm)} {relation} the {arm_name(rival)}, and runs here: {figures}."

    def reasons(self, decision: Decision) -> tuple[str, ...]:
        """Return what else the outcome rests on, in sentences."""
        about = self._about
        said = [self._compared(decision.arm, other) for other in self._others(decision.arm, decision.rival)]
        said += about.since
        if about.doubted > about.most_doubted and decision.outcome != "too noisy":
            said.append(self._noise())
        if about.looks >= _MANY_LOOKS:
            said.append(
                f"These test rows were looked at {about.looks} times. Each look makes a lucky result likelier: confirm it on new ones."
            )
        if decision.arm in TRAINED:
            said.append(self._holds_for())
        return tuple(said)

    def _holds_for(self) -> str:
        """Say what the claim is about: these weights, or the recipe that made them."""
        about, scale = self._about, self._about.scale
        if about.folds:
            return (
                f"This holds for the recipe: each of {about.folds} folds was answered by a model trained without it. "
                "The model that ships was trained on all rows, so no row is left to test it by itself."
            )
        if about.seeds is None:
            return (
                "This holds for these weights. What the recipe does under another seed tell several of them: "
                "luthier compare --seeds 3, or luthier compare --against."
            )
        seeds = about.seeds["seeds"]
        assert isinstance(seeds, list)
        errors = [scale.gap(number(about.seeds, f"error_over_{what}")).lstrip("+") for what in ("rows", "seeds")]
        return (
            f"This holds for these weights. Over {len(seeds)} training seeds the recipe gains {scale.gap(number(about.seeds, 'value'))} over "
            f"the {arm_name(str(about.seeds['against']))} (95 % interval {scale.gap_interval(ends(about.seeds))}): {about.seeds['outcome']}. "
            f"The standard error over rows is {errors[0]}, over seeds {errors[1]}."
        )

    def _others(self, arm: str | None, rival: str | None) -> list[str]:
        return [] if arm is None else [name for name in self._arms if name not in (arm, rival)]

    def _compared(self, arm: str | None, other: str) -> str:
        assert arm is not None
        gain = self._standing.gain(arm, other)
        relation = {
            "better": "better than", "worse": "worse than", "equivalent": "equivalent to", "not worse": "not worse than",
            "undecided": "not told apart from",
        }[gain.relation]  # fmt: skip
        return f"The {arm_name(arm)} is {relation} the {arm_name(other)} ({self._sure(gain)})."

    def _relation(self, ours: str, simple: str) -> str:
        gain = self._standing.gain(ours, simple)
        if gain.relation == "worse":
            return "is worse than"
        if gain.interval.low > 0:
            return f"gains less than the margin of {self._about.scale.gap(self._about.margin).lstrip('+')} over"
        return "is no better than" if gain.relation == "equivalent" else "has nothing left to gain over"

    def _figures(self, a: str, b: str) -> str:
        scale = self._about.scale
        first, second = (scale.score(number(self._arms[name], "score")) for name in (a, b))
        gain = self._standing.gain(a, b)
        return f"{scale.name} {first} against {second} on {self._about.test_rows:,} test row{'s' if self._about.test_rows != 1 else ''} ({self._sure(gain)})"

    def _sure(self, gain: Gain) -> str:
        """Write a gain as the difference of the scores: where lower is better, a gain is below 0."""
        scale = self._about.scale
        sign = -1 if scale.lower_is_better else 1
        low, high = sorted((sign * gain.interval.low, sign * gain.interval.high))
        return f"{scale.gap(sign * gain.value)}, 95 % interval {scale.gap_interval((low, high))}"

    def _more_rows(self, arm: str, rival: str) -> str:
        gain = self._standing.gain(arm, rival)
        more = gain.entry.get("more_rows")
        if not isinstance(more, int):
            return "The difference seen is as large as the margin, so no number of rows would decide it."
        if more > _MOST_ROWS:
            return f"More than {_MOST_ROWS:,} test rows would be needed to decide it."
        shown = "which is better" if gain.entry.get("aim") == "a difference" else "that they are equivalent"
        if more <= _EDGE * self._about.test_rows:
            return (
                f"They lie at the edge of what these rows can tell: if the true difference is as seen, few more test rows would show {shown}, "
                f"but at the edge it is often another. Bring clearly more than {more:,}."
            )
        return f"If the true difference is as seen, {more:,} more test row{'s' if more != 1 else ''} would show {shown} in {100 * POWER:.0f} % of cases."

    def _noise(self) -> str:
        return f"The checks doubt the answers of {100 * self._about.doubted:.1f} % of the rows, and a score cannot be surer than its answers."

    def _alone(self, arm: str) -> str:
        scale = self._about.scale
        figures = f"{scale.name} {scale.score(number(self._arms[arm], 'score'))} on {self._about.test_rows:,} test rows"
        return f"{figures} (95 % interval {scale.interval(ends(self._arms[arm]))})"

    def _nothing_to_compare(self) -> str:
        if not self._arms:
            return "No arm was run on the test rows, so nothing can be said."
        name = next(iter(self._arms))
        missing = "nothing to compare it with" if name in TRAINED else "no tuned model to compare it with"
        return f"The {arm_name(name)} reaches {self._alone(name)}, and there is {missing}."
