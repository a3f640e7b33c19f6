"""OpenAI's grader objects as graders: string_check, text_similarity, python, score_model, label_model and multi.

What needs something that is not there is refused by name: embeddings need an endpoint for them, METEOR needs a dictionary of
synonyms, python needs a sandbox, and a model that judges needs the `url` where it is served. A python grader runs in this Python, whatever its `image_tag` says:
that names a container of OpenAI's. What OpenAI's service does beyond its documentation is not known
here, so a figure may differ from the service's own in details such as tokenization.

`item` holds `prompt` and `answer`, and the keys of the wanted answer where that is a JSON object. If a grader's templates name
exactly one other field of `item`, such as `reference_answer`, that field is the wanted answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from luthier.core.errors import SettingsError, nearest
from luthier.core.types import Grade, JsonObject, JsonValue
from luthier.graders.json_fields import InvalidJson, parsed
from luthier.graders.making import models
from luthier.graders.making.expression import Expression
from luthier.graders.making.template import Missing, ensure_fillable, filled, item_fields, sample_of
from luthier.graders.measures.asked import Asker
from luthier.graders.measures.sandbox import Limits, Task, ensure_isolation, execute, isolation_problem
from luthier.graders.measures.similarity import SIMILARITIES

_OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda value, reference: value == reference,
    "ne": lambda value, reference: value != reference,
    "like": lambda value, reference: reference in value,
    "ilike": lambda value, reference: reference.casefold() in value.casefold(),
}
_KEYS = {
    "string_check": ("input", "reference", "operation"),
    "text_similarity": ("input", "reference", "evaluation_metric", "pass_threshold"),
    "python": ("source", "image_tag", "pass_threshold", "unsafe"),
    "multi": ("graders", "calculate_output"),
    "score_model": (*models.KEYS, "range"),
    "label_model": (*models.KEYS, "labels", "passing_labels"),
}
_REFUSED = {
    "cosine": "it compares embeddings, which a model behind an endpoint makes",
    "meteor": "it needs a dictionary of synonyms",
}
_OWN_FIELDS = ("prompt", "answer")
_AT_ONCE = 4


class Score(Protocol):
    """One grader object: the score of one row, None where the row does not have what it names."""

    def __call__(self, item: JsonObject, completion: str) -> float | None: ...


@dataclass(frozen=True)
class OpenAiGrader:
    """A grader object that is ready to grade; `alias` is the field of `item` that is the wanted answer."""

    score: Score
    meaning: str
    alias: str | None
    threshold: float | None = None
    ends: tuple[float, float] = (0.0, 1.0)
    askers: tuple[Asker, ...] = ()

    @property
    def at_once(self) -> int:
        """How many answers are graded at the same time where a model is asked."""
        return _AT_ONCE

    @property
    def sends_to(self) -> str:
        """The models that are asked; empty where there are none."""
        return " and ".join(f"{one.judge.model} at {one.judge.url}" for one in self.askers)

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion; a row that lacks what a template names scores 0 and is marked."""
        item: JsonObject = {"prompt": prompt, "answer": answer}
        if self.alias:
            item[self.alias] = answer
        score = self.score(item | _fields_of(answer), completion)
        low, high = self.ends
        within = 0.0 if score is None else min(1.0, max(0.0, (score - low) / (high - low)))
        return Grade(within, {"graded": score is not None, "raw": score})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the mean score, the share that could be graded, and the share that passes where a threshold is set.

        Raise RunFailed where a model was asked and more than a tenth of the answers got no score.
        """
        for asker in self.askers:
            asker.ensure_readable(sum(not grade.marks["graded"] for grade in grades), len(grades))
        metrics: dict[str, JsonValue] = {
            "mean": sum(grade.score for grade in grades) / len(grades),
            "graded": sum(bool(grade.marks["graded"]) for grade in grades) / len(grades),
        }
        if self.threshold is not None:
            metrics["passed"] = sum(_raw(grade) >= self.threshold for grade in grades) / len(grades)
        return metrics


def grader_from(entry: JsonObject, where: str) -> OpenAiGrader:
    """Make a grader of an OpenAI grader object; raise SettingsError where it cannot be used here."""
    fields: set[str] = set()
    askers: list[Asker] = []
    score = _score(entry, where, fields, askers)
    others = sorted(fields - {*_OWN_FIELDS})
    threshold = entry.get("pass_threshold")
    return OpenAiGrader(
        score,
        f"score of OpenAI's {entry['type']} grader, 0 to 1",
        others[0] if len(others) == 1 else None,
        float(threshold) if isinstance(threshold, int | float) else None,
        models.score_range(entry, where) if entry["type"] == "score_model" else (0.0, 1.0),
        tuple(askers),
    )


def _score(entry: JsonObject, where: str, fields: set[str], askers: list[Asker]) -> Score:
    """Make the scoring function of an object; what it names of `item` and whom it asks is added to `fields` and `askers`."""
    kind = str(entry.get("type"))
    _refuse_by_name(kind, where)
    if kind not in _KEYS:
        raise SettingsError(
            f"{where}: there is no grader type {kind!r}.{nearest(kind, _KEYS)} There are: {', '.join(_KEYS)}."
        )
    unknown = [key for key in entry if key not in (*_KEYS[kind], "type", "name")]
    if unknown:
        raise SettingsError(f"{where}: {kind} has no {unknown[0]!r}.{nearest(unknown[0], _KEYS[kind])}")
    if kind == "multi":
        return _multi(entry, where, fields, askers)
    if kind in ("score_model", "label_model"):
        asking = (models.score_model if kind == "score_model" else models.label_model)(entry, where, fields)
        askers.append(asking.asker)
        return asking
    makers = {"string_check": _string_check, "text_similarity": _text_similarity, "python": _python}
    return makers[kind](entry, where, fields)


def _string_check(entry: JsonObject, where: str, fields: set[str]) -> Score:
    value, reference = _templates(entry, where, fields)
    operation = str(entry.get("operation"))
    if operation not in _OPERATIONS:
        raise SettingsError(f"{where}: operation {operation!r} is none of {', '.join(_OPERATIONS)}.")
    return _filling(value, reference, lambda left, right: float(_OPERATIONS[operation](left, right)))


def _text_similarity(entry: JsonObject, where: str, fields: set[str]) -> Score:
    value, reference = _templates(entry, where, fields)
    metric = str(entry.get("evaluation_metric"))
    _refuse_by_name(metric, where)
    if metric not in SIMILARITIES:
        raise SettingsError(
            f"{where}: there is no evaluation_metric {metric!r}.{nearest(metric, SIMILARITIES)} There are: {', '.join(SIMILARITIES)}."
        )
    return _filling(value, reference, SIMILARITIES[metric])


def _python(entry: JsonObject, where: str, fields: set[str]) -> Score:
    source = entry.get("source")
    if not isinstance(source, str) or "def grade" not in source:
        raise SettingsError(f"{where}: source must define `grade(sample, item)`.")
    ensure_isolation(where, unsafe=bool(entry.get("unsafe")))

    def score(item: JsonObject, completion: str) -> float | None:
        names: JsonObject = {"sample": sample_of(completion), "item": item}
        task = Task(source, "score = grade(sample, item)", "score", names)
        return execute(task, Limits(isolated=isolation_problem() is None)).value

    return score


def _multi(entry: JsonObject, where: str, fields: set[str], askers: list[Asker]) -> Score:
    graders = entry.get("graders")
    if not isinstance(graders, dict) or not graders:
        raise SettingsError(f"{where}: multi needs `graders`, an object of grader objects by name.")
    scores: dict[str, Score] = {}
    for name, inner in graders.items():
        if not isinstance(inner, dict):
            raise SettingsError(f"{where}.{name}: expected a grader object, found {inner!r}.")
        scores[name] = _score(inner, f"{where}.{name}", fields, askers)
    formula = Expression(str(entry.get("calculate_output", "")), tuple(scores), f"{where}: calculate_output")

    def score(item: JsonObject, completion: str) -> float | None:
        values = {name: inner(item, completion) for name, inner in scores.items()}
        known = {name: value for name, value in values.items() if value is not None}
        return formula.value(known) if len(known) == len(values) else None

    return score


def _filling(value: str, reference: str, compare: Callable[[str, str], float]) -> Score:
    def score(item: JsonObject, completion: str) -> float | None:
        try:
            return compare(filled(value, item, completion), filled(reference, item, completion))
        except Missing:
            return None

    return score


def _templates(entry: JsonObject, where: str, fields: set[str]) -> tuple[str, str]:
    value, reference = (ensure_fillable(entry.get(key), f"{where}: {key}") for key in ("input", "reference"))
    fields.update(item_fields(value), item_fields(reference))
    return value, reference


def _refuse_by_name(kind: str, where: str) -> None:
    if kind in _REFUSED:
        raise SettingsError(f"{where}: {kind} cannot be used here, because {_REFUSED[kind]}.")


def _fields_of(answer: str) -> JsonObject:
    try:
        value = parsed(answer)
    except InvalidJson:
        return {}
    return value if isinstance(value, dict) else {}


def _raw(grade: Grade) -> float:
    raw = grade.marks["raw"]
    return float(raw) if isinstance(raw, int | float) else float("-inf")
