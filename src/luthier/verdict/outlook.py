"""Is it worth tuning at all? What can be said before any training: from the untuned arms and from how a quick model learns.

The quick linear model stands in for the tuned one: where rows teach it what no prompt tells the language model, tuning is
likely to pay, and where an arm leaves nothing to gain, it cannot. This is a forecast and never a proof.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from luthier.core.types import JsonObject, JsonValue
from luthier.data.answers_kind import as_json_object
from luthier.data.learning_curve import Curve
from luthier.verdict.choose import are_labels
from luthier.verdict.figures import ARM_NAMES, Scale, ends, number

Prospect = Literal["nothing to gain", "tuning may pay", "tuning may not pay", "cannot tell"]

_CLASSICAL, _ENDPOINT = "classical", "endpoint"
# Where a doubling of the rows takes away less than a tenth of the errors, more of the same rows teach little.
_FLAT = 0.9
_NEXT: Mapping[Prospect, str] = {
    "nothing to gain": "Use it as it is; there is nothing to tune for.",
    "tuning may pay": "Tune and let the verdict decide: luthier resume RUN.",
    "tuning may not pay": "Better prompts or knowledge come first; a short run tells whether that is so: luthier resume RUN.",
    "cannot tell": "A short run tells more: luthier resume RUN.",
}


class Outlook(NamedTuple):
    """What tuning promises, why, and what to do next."""

    prospect: Prospect
    because: str
    next: str

    def as_entries(self) -> JsonObject:
        """Return what `outlook.json` says."""
        return {"outcome": self.prospect, "because": self.because, "next": self.next}


class Labels(NamedTuple):
    """One label for each answer: the answer itself, or the value of its field `field`."""

    labels: list[str]
    field: str = ""


def labels_of(answers: Sequence[str]) -> Labels | None:
    """Return what a quick model can learn of the answers: labels, or the first field of JSON answers that holds some."""
    if are_labels(Counter(answers)):
        return Labels(list(answers))
    objects = [as_json_object(answer) or {} for answer in answers]
    for key in dict.fromkeys(key for value in objects for key in value):
        values = [value.get(key) for value in objects]
        labels = [json.dumps(value, sort_keys=True) for value in values]
        if not any(isinstance(value, dict | list) for value in values) and are_labels(Counter(labels)):
            return Labels(labels, key)
    return None


def outlook(
    arms: Mapping[str, JsonValue], curve: Curve | None, scale: Scale, margin: float, field: str = ""
) -> Outlook:
    """Judge untuned arms by their scores and intervals.

    `curve` is that of a quick linear model, None where it has none; `field` names the field of JSON answers that it learned.
    """
    full = [name for name in arms if number(arms[name], "score") >= 1 - margin]
    if full:
        return _said(
            "nothing to gain", f"The {_name(full[0])} leaves nothing to gain: {_figures(arms, full[0], scale)}."
        )
    prompted = [name for name in arms if name not in (_CLASSICAL, _ENDPOINT)]
    if not prompted or _CLASSICAL not in arms:
        return _said(
            "cannot tell", "A forecast needs the arm classical and one that prompts the model that would be tuned."
        )
    best = max(prompted, key=lambda name: number(arms[name], "score"))
    figures = f"{_name(_CLASSICAL)} {_figures(arms, _CLASSICAL, scale)}, {_name(best)} {_figures(arms, best, scale)}"
    forecast = _forecast(curve, field)
    if ends(arms[_CLASSICAL])[0] > ends(arms[best])[1]:
        return _said("tuning may pay", f"The rows teach what no prompt told the model: {figures}.{forecast}")
    if curve is not None and curve.doubling <= _FLAT:
        return _said(
            "tuning may pay", f"The rows go on teaching a quick model, which prompts still match: {figures}.{forecast}"
        )
    if curve is None and ends(arms[best])[0] <= ends(arms[_CLASSICAL])[1]:
        return _said("cannot tell", f"A quick model and a prompt do equally well here: {figures}.{forecast}")
    return _said(
        "tuning may not pay", f"Nothing shows that the rows teach more than a prompt tells: {figures}.{forecast}"
    )


def _said(prospect: Prospect, because: str) -> Outlook:
    return Outlook(prospect, because, _NEXT[prospect])


def _forecast(curve: Curve | None, field: str) -> str:
    if curve is None:
        return " How it goes on with more rows a quick model cannot tell: the answers are no labels, or the rows are too few."
    what = f"the field {field} in " if field else ""
    return (
        f" A quick model is right on {what}{curve.right[-1]:.1%} after {curve.rows[-1]:,} rows; twice as many would give about "
        f"{curve.after_doubling:.1%}."
    )


def _figures(arms: Mapping[str, JsonValue], name: str, scale: Scale) -> str:
    return f"{scale.score(number(arms[name], 'score'))} ({scale.interval(ends(arms[name]))})"


def _name(arm: str) -> str:
    return ARM_NAMES.get(arm, arm)
