"""System prompts written from the training rows: the task, the labels or the shape of the JSON, the rules of the format.

They say what a person could read off the answers and nothing more; no text of a question stands in them.
"""

import json
from collections import Counter
from collections.abc import Sequence
from statistics import median

from luthier.core.types import JsonObject, JsonValue
from luthier.data.answers_kind import as_json_object
from luthier.verdict.asking import Candidate, Material, with_system
from luthier.verdict.choose import are_labels

_MOST_VALUES = 30
_FEWEST_REPEATS = 4
_REQUIRED_SHARE = 0.95
_DEEPEST = 3
_KINDS = {"str": "string", "bool": "boolean", "int": "integer", "float": "number", "list": "array", "NoneType": "null"}


def candidates(material: Material) -> list[Candidate]:
    """Return a short prompt, one with the labels or the schema, and one that adds the rules of the format."""
    answers = [one.wanted.strip() for one in material.examples]
    if not answers:
        return []
    task, details, rules = _described(answers, material)
    texts = {
        "task": task,
        "task and details": f"{task}\n{details}",
        "task, details and rules": f"{task}\n{details}\n{rules}",
    }
    names = dict[str, str]()
    for name, text in texts.items():  # where details or rules are empty, a text stands for itself once
        names.setdefault(text.strip(), f"written: {name}")
    return [prompted(name, text, material) for text, name in names.items()]


def prompted(name: str, text: str, material: Material) -> Candidate:
    """Return the candidate that asks under this system prompt."""
    return Candidate(name, lambda question, room: with_system(question, text, material.system_role))


def inferred_schema(objects: Sequence[JsonObject], depth: int = 0) -> JsonObject:
    """Return a JSON schema that describes objects: types, keys that are nearly always there, values where they are few."""
    by_key: dict[str, list[JsonValue]] = {}
    for value in objects:
        for key, inner in value.items():
            by_key.setdefault(key, []).append(inner)
    required: list[JsonValue] = [key for key, values in by_key.items() if len(values) >= _REQUIRED_SHARE * len(objects)]
    properties: JsonObject = {key: _of_values(values, depth) for key, values in by_key.items()}
    return {"type": "object", "properties": properties, "required": required}


def _described(answers: Sequence[str], material: Material) -> tuple[str, str, str]:
    """Return the task, its details and its rules in words."""
    objects = [value for value in map(as_json_object, answers) if value is not None]
    if len(objects) >= _REQUIRED_SHARE * len(answers):
        return _extraction(objects, material)
    distinct = Counter(answers)
    if are_labels(distinct):
        return _classification(distinct, material)
    if material.grader.partition(":")[0] == "number":
        return (
            "Solve the problem that the user states.", "Work step by step.",
            "End with the final number alone, without a unit, behind '####' on a line of its own."
            if sum("####" in answer for answer in answers) >= _REQUIRED_SHARE * len(answers)
            else "End with the final number alone.",
        )  # fmt: skip
    return _free_text(answers)


def _classification(distinct: Counter[str], material: Material) -> tuple[str, str, str]:
    labels = [label for label, _ in distinct.most_common()]
    fit = material.fitting(labels, len(labels), material.settings.added_tokens)
    listed = ", ".join(sorted(labels[place] for place in fit))
    those = "The labels are" if len(fit) == len(labels) else f"The most common of {len(labels):,} labels are"
    return (
        "Classify the user's message. Answer with one label.",
        f"{those}: {listed}.",
        "Write the label exactly as it stands here, and nothing else: no explanation, no quotes, no full stop.",
    )


def _extraction(objects: Sequence[JsonObject], material: Material) -> tuple[str, str, str]:
    schema = json.dumps(inferred_schema(objects), ensure_ascii=False)
    if material.cost(schema) > material.settings.added_tokens:
        schema = json.dumps(_outline(inferred_schema(objects)), ensure_ascii=False)
    return (
        "Read the user's message and answer with one JSON object that holds what it says.",
        f"The object has this schema: {schema}",
        "Copy values from the message as they are written there. Leave out keys that the message says nothing of. "
        "Write the JSON object alone: no explanation, no code fence.",
    )


def _free_text(answers: Sequence[str]) -> tuple[str, str, str]:
    words = [len(answer.split()) for answer in answers]
    lines = median(answer.count("\n") + 1 for answer in answers)
    shape = "in one line" if lines <= 1 else f"in about {round(lines)} lines"
    return (
        "Answer the user's message.",
        f"Answer {shape}, with about {round(median(words))} words.",
        "Write the answer alone: no greeting, no heading, no remark about it.",
    )


def _of_values(values: Sequence[JsonValue], depth: int) -> JsonObject:
    objects = [value for value in values if isinstance(value, dict)]
    if len(objects) == len(values) and depth < _DEEPEST:
        return inferred_schema(objects, depth + 1)
    kinds = [_KINDS.get(type(value).__name__, "object") for value in values]
    type_of: JsonObject = {"type": kinds[0] if len(set(kinds)) == 1 else [*dict.fromkeys(kinds)]}
    if set(kinds) == {"string"}:
        counted = Counter(str(value) for value in values)
        if len(counted) <= _MOST_VALUES and len(values) >= _FEWEST_REPEATS * len(counted):
            return {**type_of, "enum": [*sorted(counted)]}
    inner = [item for value in values if isinstance(value, list) for item in value]
    return {**type_of, "items": _of_values(inner, depth + 1)} if inner and set(kinds) == {"array"} else type_of


def _outline(schema: JsonObject) -> JsonObject:
    """Return a schema shortened to its keys and their types."""
    properties = schema["properties"]
    assert isinstance(properties, dict)
    short: dict[str, JsonValue] = {}
    for key, inner in properties.items():
        assert isinstance(inner, dict)
        short[key] = _outline(inner) if "properties" in inner else inner["type"]
    return short
