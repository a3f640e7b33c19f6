"""JSON values written so that equal values, and only those, are equal texts."""

import json

from luthier.core.types import JsonValue


def written(value: JsonValue, *, any_order: bool) -> str:
    """Write a value so that equal values, and only those, are equal texts; numbers by value, keys sorted."""
    if isinstance(value, dict):
        inner = [f"{json.dumps(key)}:{written(value[key], any_order=any_order)}" for key in sorted(value)]
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        elements = [written(element, any_order=any_order) for element in value]
        return "[" + ",".join(sorted(elements) if any_order else elements) + "]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)
