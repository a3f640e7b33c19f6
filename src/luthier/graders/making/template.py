"""The templates of OpenAI's graders: `{{item.x}}`, `{{sample.output_text}}`, `{{sample.output_json.x}}`."""

import json
import re
from collections.abc import Iterator

from luthier.core.errors import SettingsError
from luthier.core.types import JsonObject, JsonValue
from luthier.graders.json_fields import InvalidJson, parsed

_HOLE = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_PATH = re.compile(r"(item|sample)((?:\.\w+|\[\d+\])+)")
_OF_A_SAMPLE = ("output_text", "output_json")


class Missing(ValueError):
    """A place that a template names is not in this row."""


def ensure_fillable(template: JsonValue, where: str) -> str:
    """Return the template; raise SettingsError if it is no text or names what a row never has."""
    if not isinstance(template, str):
        raise SettingsError(
            f"{where}: expected a text with {{{{item...}}}} or {{{{sample...}}}} in it, found {template!r}."
        )
    for hole in _HOLE.findall(template):
        path = _PATH.fullmatch(hole)
        if path is None:
            raise SettingsError(f"{where}: {{{{{hole}}}}} begins neither with `item.` nor with `sample.`.")
        if path[1] == "sample" and _first_step(path[2]) not in _OF_A_SAMPLE:
            raise SettingsError(f"{where}: {{{{{hole}}}}} is not there; a sample has {' and '.join(_OF_A_SAMPLE)}.")
    return template


def item_fields(template: str) -> Iterator[str]:
    """Yield the first field of every `{{item...}}` in a template."""
    for hole in _HOLE.findall(template):
        path = _PATH.fullmatch(hole)
        if path is not None and path[1] == "item":
            yield _first_step(path[2])


def filled(template: str, item: JsonObject, completion: str) -> str:
    """Fill a template for one row; raise Missing where the row has no such place."""
    return _HOLE.sub(lambda hole: _text(_looked_up(hole[1], item, completion)), template)


def sample_of(completion: str) -> JsonObject:
    """Return what a grader's `sample` is: the text of the answer, and its JSON where it is some."""
    try:
        value = parsed(completion)
    except InvalidJson:
        value = None
    return {"output_text": completion, "output_json": value, "choices": [{"message": {"content": completion}}]}


def _looked_up(path: str, item: JsonObject, completion: str) -> JsonValue:
    value: JsonValue = item if path.startswith("item") else sample_of(completion)
    for step in _STEP.finditer(path):
        value = _stepped(value, step[1], step[2], path)
    return value


def _stepped(value: JsonValue, key: str | None, place: str | None, path: str) -> JsonValue:
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and place and int(place) < len(value):
        return value[int(place)]
    raise Missing(path)


def _first_step(steps: str) -> str:
    found = _STEP.match(steps)
    return found[1] if found else ""


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
