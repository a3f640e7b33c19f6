"""How the verdict's figures are written out, the same on the screen, in the report and in its sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luthier.core.types import JsonObject, JsonValue

ARM_NAMES = {
    "classical": "classical model",
    "zero_shot": "untuned model",
    "prompt": "prompted model",
    "few_shot": "few-shot prompt",
    "retrieval": "retrieval",
    "tuned": "tuned model",
    "tuned_retrieval": "tuned model with retrieval",
    "endpoint": "endpoint",
}
_NO_SHARES = {"bleu", "chrf_plus_plus", "mean_length", "median_length", "length_ratio", "distance"}
_SCORE_NAMES = {"accuracy": "accuracy", "json_fields": "field F1", "number": "right numbers", "exact": "exact match"}


@dataclass(frozen=True, slots=True)
class Scale:
    """How a score is called and written."""

    name: str
    factor: float
    unit: str
    gap_unit: str
    digits: int
    lower_is_better: bool = False

    def score(self, value: float) -> str:
        """Write a score: `92.1 %`."""
        return f"{value * self.factor:.{self.digits}f}{self.unit}"

    def interval(self, ends: Sequence[float]) -> str:
        """Write an interval of scores: `91.0 to 93.1 %`."""
        low, high = (f"{end * self.factor:.{self.digits}f}" for end in ends)
        return f"{low} to {high}{self.unit}"

    def gap(self, value: float) -> str:
        """Write a difference of scores with its sign: `+1.3 points`."""
        return f"{self._rounded(value):+.{self.digits}f}{self.gap_unit}"

    def gap_interval(self, ends: Sequence[float]) -> str:
        """Write the interval of a difference: `+0.4 to +2.1`."""
        low, high = (f"{self._rounded(end):+.{self.digits}f}" for end in ends)
        return f"{low} to {high}"

    def _rounded(self, value: float) -> float:
        return round(value * self.factor, self.digits) + 0.0  # no difference is +0.0, never -0.0


def scale_of(grader: str, lower_is_better: bool) -> Scale:
    """Return how scores of a grader are written; lower is better only for bits per byte."""
    if lower_is_better:
        return Scale("bits per byte", 1, "", "", 3, lower_is_better=True)
    name = grader if ".py:" in grader else grader.partition(":")[0]
    if name == "text":
        return Scale("chrF", 100, "", " points", 1)
    return Scale(_SCORE_NAMES.get(name, name.replace("_", " ")), 100, " %", " points", 1)


def key_metrics(metrics: Mapping[str, JsonValue]) -> dict[str, float]:
    """Return the metrics that are one number, then the accuracy of top-level keys and the F1 of nested ones."""
    chosen = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
    for key, share in objects(metrics.get("keys")).items():
        assert isinstance(share, int | float)
        chosen[key] = float(share)
    for group, of_group in objects(metrics.get("groups")).items():
        chosen[f"{group} F1"] = number(of_group, "f1")
    return chosen


def also_scores(arm: JsonValue) -> dict[str, float]:
    """Return an arm's scores by the graders that stand beside the first, by their short names where these tell them apart."""
    found = objects(objects(arm).get("also"))
    short = {name: name.partition(":")[0] if ".py:" not in name else name for name in found}
    twice = {one for one in short.values() if list(short.values()).count(one) > 1}
    return {name if short[name] in twice else short[name]: number(one, "score") for name, one in found.items()}


def agreement_words(metrics: Mapping[str, JsonValue]) -> str:
    """Say how far a judge agrees with the people who labelled rows; empty where that was not measured."""
    found = objects(metrics.get("agreement"))
    if not found:
        return ""
    share, kappa = (found[f"{name}_interval"] for name in ("accuracy", "kappa"))
    assert isinstance(share, list) and isinstance(kappa, list)
    low, high = (100 * float(str(end)) for end in share)
    least, most = (float(str(end)) for end in kappa)
    return (
        f"The judge agrees with people on {100 * number(found, 'accuracy'):.1f} % of {number(found, 'rows'):,.0f} labelled rows "
        f"({low:.1f} to {high:.1f}); Cohen's kappa {number(found, 'kappa'):.2f} ({least:.2f} to {most:.2f})."
    )


def metric_name(name: str) -> str:
    """Write a metric's name for people."""
    words = {
        "json_valid": "valid JSON",
        "macro_f1": "macro-F1",
        "f1": "micro-F1",
        "chrf": "corpus chrF",
        "token_f1": "token F1",
        "bleu": "corpus BLEU",
        "chrf_plus_plus": "corpus chrF++",
        "rouge_1": "ROUGE-1",
        "rouge_2": "ROUGE-2",
        "rouge_l": "ROUGE-L",
        "rouge_l_recall": "ROUGE-L recall",
    }
    return words.get(name, name.replace("_", " "))


def metric(name: str, value: float) -> str:
    """Write a metric: shares in percent, chrF, BLEU, lengths, counts and bits as they are."""
    if name in _NO_SHARES:
        return f"{value:.2f}"
    plain = {"chrf": f"{value:.1f}", "bytes": f"{value:,.0f}", "bits_per_byte": f"{value:.3f}"}
    return plain.get(name, f"{100 * value:.1f} %")


def duration(seconds: float) -> str:
    """Write a time: `0.4 s`, `32 s`, `4 min 05 s`, `1 h 12 min`."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def memory(num_bytes: float) -> str:
    """Write an amount of memory: `1.4 GiB`, `512 MiB`."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def objects(value: JsonValue) -> JsonObject:
    """Return a JSON object, or an empty one where there is none."""
    return value if isinstance(value, dict) else {}


def number(value: JsonValue, key: str) -> float:
    """Return the number that a JSON object holds under `key`."""
    found = objects(value)[key]
    assert isinstance(found, int | float), (key, found)
    return float(found)


def ends(value: JsonValue) -> tuple[float, float]:
    """Return the two ends of the interval that an arm or a difference holds."""
    found = objects(value)["interval"]
    assert isinstance(found, list)
    low, high = (float(end) for end in found if isinstance(end, int | float))
    return low, high
