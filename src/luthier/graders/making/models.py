"""OpenAI's graders that ask a model: score_model for a number in a range, label_model for one of some labels.

OpenAI's objects name a model and take for granted who serves it. Here `url`, the address of an OpenAI-compatible server, is
written into the object beside it. The reply is read as one JSON object with `result`; any other reply gives no score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from luthier.core.endpoint import Decoding
from luthier.core.errors import SettingsError
from luthier.core.types import JsonObject, JsonValue, Message, Role
from luthier.graders.making.template import Missing, ensure_fillable, filled, item_fields
from luthier.graders.measures.asked import TOKENS, Asker, Judge

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_LIMITS = ("max_completions_tokens", "max_completion_tokens", "max_tokens")
_SAMPLING = {"temperature": 0.0, "top_p": 1.0, "seed": 0.0, **dict.fromkeys(_LIMITS, float(TOKENS))}
_UNUSED = ("reasoning_effort",)
KEYS = ("input", "model", "sampling_params", "pass_threshold", "url", "key_variable")


@dataclass(frozen=True)
class ModelGrader:
    """Asks a model about one row and turns its reply into a score; None where the row or the reply cannot be used."""

    asker: Asker
    input: Sequence[tuple[Role, str]]
    schema: JsonObject
    read: Callable[[JsonValue], float | None]

    def __call__(self, item: JsonObject, completion: str) -> float | None:
        """Return the score of one row."""
        try:
            messages = [Message(role, filled(text, item, completion)) for role, text in self.input]
        except Missing:
            return None
        found = self.asker.ask(messages, self.schema, lambda value: self.read(value.get("result")) is not None)
        return None if found is None else self.read(found.get("result"))


def score_range(entry: JsonObject, where: str) -> tuple[float, float]:
    """Return the ends of a score_model's range, 0 to 1 where none is given."""
    ends = entry.get("range", [0, 1])
    numbers = [float(end) for end in ends if _is_number(end)] if isinstance(ends, list) else []
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise SettingsError(f"{where}: range: expected two numbers, the lower first, found {ends!r}.")
    return numbers[0], numbers[1]


def score_model(entry: JsonObject, where: str, fields: set[str]) -> ModelGrader:
    """Make the grader of a score_model object; a number outside the range is no score."""
    low, high = score_range(entry, where)

    def read(result: JsonValue) -> float | None:
        return float(result) if _is_number(result) and low <= result <= high else None

    number: JsonObject = {"type": "number", "minimum": low, "maximum": high}
    return ModelGrader(_asker(entry, where), _input(entry, where, fields), _schema(number), read)


def label_model(entry: JsonObject, where: str, fields: set[str]) -> ModelGrader:
    """Make the grader of a label_model object: 1 for a passing label, 0 for another of its labels."""
    labels, passing = (_texts(entry, key, where) for key in ("labels", "passing_labels"))
    strange = [label for label in passing if label not in labels]
    if strange:
        raise SettingsError(f"{where}: passing_labels: {strange[0]!r} is none of the labels: {', '.join(labels)}.")

    def read(result: JsonValue) -> float | None:
        return float(result in passing) if result in labels else None

    return ModelGrader(_asker(entry, where), _input(entry, where, fields), _schema({"enum": [*labels]}), read)


def _schema(result: JsonObject) -> JsonObject:
    return {
        "type": "object", "additionalProperties": False, "required": ["reason", "result"],
        "properties": {"reason": {"type": "string", "maxLength": 400}, "result": result},
    }  # fmt: skip


def _asker(entry: JsonObject, where: str) -> Asker:
    kind, url, model = entry["type"], entry.get("url"), entry.get("model")
    if not isinstance(model, str) or not model:
        raise SettingsError(f"{where}: {kind} needs `model`, the name by which the server knows the judge.")
    if not isinstance(url, str) or not url:
        raise SettingsError(
            f"{where}: {kind} asks a model, and where that is served is not in the object; add `url`, the address of an "
            "OpenAI-compatible server such as https://host/v1. Questions and answers are sent there."
        )
    key = entry.get("key_variable", "LUTHIER_ENDPOINT_KEY")
    return Asker(Judge(where, url, model, str(key)), _decoding(entry, where))


def _decoding(entry: JsonObject, where: str) -> Decoding:
    given = entry.get("sampling_params") or {}
    if not isinstance(given, dict):
        raise SettingsError(f"{where}: sampling_params: expected an object, found {given!r}.")
    values = dict(_SAMPLING)
    for name, value in given.items():
        if name in _UNUSED or value is None:
            continue
        if name not in values or not _is_number(value):
            raise SettingsError(
                f"{where}: sampling_params.{name}: {value!r} cannot be used; there are {', '.join(_SAMPLING)}."
            )
        values[name] = float(value)
    limit = next((values[name] for name in _LIMITS if name in given and given[name] is not None), TOKENS)
    return Decoding(int(limit), values["temperature"], values["top_p"], int(values["seed"]))


def _input(entry: JsonObject, where: str, fields: set[str]) -> list[tuple[Role, str]]:
    given = entry.get("input")
    if not isinstance(given, list) or not given:
        raise SettingsError(f"{where}: input: expected a list of messages, found {given!r}.")
    messages = [_message(one, f"{where}: input {number}") for number, one in enumerate(given, start=1)]
    for _, text in messages:
        fields.update(item_fields(text))
    return messages


def _message(given: JsonValue, where: str) -> tuple[Role, str]:
    role = given.get("role") if isinstance(given, dict) else None
    if not isinstance(given, dict) or role not in _ROLES:
        raise SettingsError(
            f"{where}: expected a message with a role ({', '.join(_ROLES)}) and content, found {given!r}."
        )
    content = given.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) and "text" in str(part.get("type")) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise SettingsError(
            f"{where}: content: expected text, found {content!r}; pictures and sound cannot be judged here."
        )
    return _ROLES[str(role)], "\n".join(ensure_fillable(text, where) for text in texts)


def _texts(entry: JsonObject, key: str, where: str) -> list[str]:
    given = entry.get(key)
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        raise SettingsError(f"{where}: {key}: expected a list of texts, found {given!r}.")
    return [str(one) for one in given]


def _is_number(value: JsonValue) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
