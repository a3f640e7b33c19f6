"""The rules of the verdict: from differences with intervals to one outcome. In plain words: docs/verdict.md.

More is worth its price only where it is proven better and the gain seen is at least the margin; within the margin the
simpler arm wins. Everything follows from the differences and the scores, so a reader can follow it with the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from luthier.core.types import Interval, JsonObject, JsonValue
from luthier.verdict.figures import ends, number
from luthier.verdict.stats import Outcome as Relation
from luthier.verdict.stats import outcome_of

Outcome = Literal[
    "tuned wins", "tune and retrieve", "classical is enough", "prompt is enough", "use retrieval", "tuning does not pay",
    "undecided", "too noisy", "refused",
]  # fmt: skip
TRAINED = ("tuned", "tuned_retrieval")
ENDPOINT = "endpoint"
# From the simplest to the dearest to run; an arm of the user's own stands before the trained ones.
LADDER = ("classical", "zero_shot", "prompt", "few_shot", "retrieval", *TRAINED, ENDPOINT)
_ENOUGH: Mapping[str, Outcome] = {
    "classical": "classical is enough", "prompt": "prompt is enough", "few_shot": "prompt is enough",
    "retrieval": "use retrieval",
}  # fmt: skip
_HAIR = 1e-12
# Six independent rows, all right, are surely right more often than not; five are not.
_SURELY_RIGHT = 0.5


class Gain(NamedTuple):
    """What one arm gains over another, in the direction in which better is higher."""

    value: float
    interval: Interval
    relation: Relation
    entry: JsonObject


@dataclass(frozen=True)
class Decision:
    """The outcome; `arm` is the one that it is about, `rival` the one that it was measured against, None where none was.

    `full` says that the simpler arm leaves nothing to gain that is worth the margin.
    """

    outcome: Outcome
    arm: str | None = None
    rival: str | None = None
    full: bool = False


class Standing:
    """The arms of a verdict and how they compare."""

    def __init__(
        self, arms: Mapping[str, JsonValue], differences: Sequence[JsonObject], margin: float, lower_is_better: bool
    ) -> None:
        self._arms, self._margin, self._lower = arms, margin, lower_is_better
        self._entries = {(str(entry["a"]), str(entry["b"])): entry for entry in differences}
        self.trained = [name for name in TRAINED if name in arms]
        self.untuned = sorted((name for name in arms if name not in (*TRAINED, ENDPOINT)), key=_rung)
        self.endpoint = ENDPOINT in arms

    def best(self, names: Sequence[str]) -> str | None:
        """Return the arm with the best score, the simpler one of equals; None where there is none."""
        sign = -1 if self._lower else 1
        return max(sorted(names, key=_rung), key=lambda name: sign * number(self._arms[name], "score"), default=None)

    def gain(self, a: str, b: str) -> Gain:
        """Return what `a` gains over `b`."""
        turned = (a, b) not in self._entries
        entry = self._entries[(b, a) if turned else (a, b)]
        value, (low, high) = number(entry, "value"), ends(entry)
        if turned != self._lower:
            value, low, high = 0.0 - value, 0.0 - high, 0.0 - low
        interval = Interval(low, high)
        return Gain(value, interval, outcome_of(interval, self._margin), entry)

    def worth(self, a: str, b: str) -> bool:
        """Tell whether `a` is proven better than `b`, and the gain seen is at least the margin."""
        gain = self.gain(a, b)
        return gain.relation == "better" and gain.value >= self._margin - _HAIR

    def full(self, name: str) -> bool:
        """Tell whether an arm's score leaves less to gain than the margin; one of a few rows that happen to be right does not count."""
        if self._lower or number(self._arms[name], "score") < 1 - self._margin - _HAIR:
            return False
        return ends(self._arms[name])[0] >= _SURELY_RIGHT

    def settled(self, a: str, b: str) -> bool:
        """Tell whether it is clear that `a` is not worth more than `b`."""
        relation = self.gain(a, b).relation
        return relation in ("equivalent", "worse") or (relation == "better" and not self.worth(a, b)) or self.full(b)


def decide(standing: Standing) -> Decision:
    """Judge whether tuning pays, and if not, what is enough."""
    best = standing.best(standing.untuned)
    if not standing.trained:
        full = [name for name in standing.untuned if standing.full(name)]
        return Decision(enough(full[0]), full[0], None, full=True) if full else Decision("undecided")
    if best is None and not standing.endpoint:
        return Decision("undecided")
    if winner := _winner(standing):
        return Decision("tuned wins" if winner == "tuned" else "tune and retrieve", winner, best or ENDPOINT)
    ours = standing.best(standing.trained)
    assert ours is not None
    if standing.endpoint and all(standing.worth(ENDPOINT, name) for name in (ours, *standing.untuned)):
        return Decision("tuning does not pay", ENDPOINT, ours)
    return _without_a_winner(standing, ours, best)


def enough(arm: str) -> Outcome:
    """Return the outcome where this untuned arm does as well as anything."""
    return _ENOUGH.get(arm, "tuning does not pay")


def _winner(standing: Standing) -> str | None:
    """Return the trained arm that beats all the untuned ones; the one with retrieval only where it is worth more."""
    winners = [
        name
        for name in standing.trained
        if all(standing.worth(name, other) for other in standing.untuned)
        and not (standing.endpoint and _may_lose(standing, name))
    ]
    if len(winners) == 2 and standing.worth("tuned_retrieval", "tuned"):
        return "tuned_retrieval"
    return winners[0] if winners else None


def _may_lose(standing: Standing, name: str) -> bool:
    """Tell whether a large model behind an address may be worth more; a tuned one that is no worse costs less."""
    return standing.gain(name, ENDPOINT).relation == "undecided" or standing.worth(ENDPOINT, name)


def _without_a_winner(standing: Standing, ours: str, best: str | None) -> Decision:
    close = [name for name in standing.untuned if not standing.worth(ours, name)]
    settled = [name for name in close if standing.settled(ours, name)]
    if not settled:
        return Decision("undecided", ours, standing.best(close) or ENDPOINT)
    assert best is not None
    simple = [name for name in settled if name == best or standing.settled(best, name)]
    arm = simple[0] if simple else standing.best(settled)
    assert arm is not None
    return Decision(enough(arm), arm, ours, full=standing.full(arm))


def _rung(name: str) -> tuple[int, str]:
    return (LADDER.index(name) if name in LADDER else LADDER.index("tuned") - 1, name)
