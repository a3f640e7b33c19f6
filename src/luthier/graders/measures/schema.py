"""A JSON schema that is whole in itself, and the first fault of a value against it.

`jsonschema` does the work; three things are stricter than its own way. References outside the document are refused before
anything is checked. Unique items are found by hashing, for comparing each with each would hang on a long list. Patterns
are searched against the clock.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import unquote

from jsonschema import SchemaError, ValidationError, validators
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from luthier.core.errors import SettingsError
from luthier.core.types import JsonObject, JsonValue
from luthier.graders.json_fields import InvalidJson, parsed
from luthier.graders.measures.canonical import written
from luthier.graders.measures.patterns import Found, compiled, search

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS = ("$anchor", "$dynamicAnchor")
_LONGEST_DETAIL = 120


class Schema:
    """A schema that is ready to check values."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    def fault(self, value: JsonValue) -> str | None:
        """Return the first fault as `place: what is wrong`, or None if the value conforms."""
        try:
            fault = next(iter(self._validator.iter_errors(value)), None)
        except RecursionError:
            return "$: nested too deep to be checked"
        except Unresolvable as error:
            return f"$: the schema refers to what is not in it: {error}"
        if fault is None:
            return None
        return f"{_place(fault)}: {fault.validator} {_short(fault)}"


def read_schema(file: Path) -> Schema:
    """Read a schema from a file; raise SettingsError if it is none, or refers to something outside itself."""
    try:
        schema = parsed(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"json_schema.schema: there is no file {file}.") from error
    except (InvalidJson, UnicodeDecodeError) as error:
        raise SettingsError(f"json_schema.schema: {file} is not JSON: {error}.") from error
    return schema_from(schema, str(file))


def schema_from(schema: JsonValue, where: str) -> Schema:
    """Make a schema of parsed JSON; `where` is what an error calls it."""
    if not isinstance(schema, dict):
        raise SettingsError(f"{where} is no JSON schema: expected an object.")
    kind = validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise SettingsError(
            f"{where} is no JSON schema: {_place(error)}: {error.message[:_LONGEST_DETAIL]}."
        ) from error
    except RecursionError as error:
        raise SettingsError(f"{where} is no usable JSON schema: it is nested too deep.") from error
    _ensure_whole(schema, where)
    checking = cast("type[Validator]", validators.extend(kind, {"uniqueItems": _unique_items, "pattern": _pattern}))  # pyright: ignore[reportUnknownMemberType] - jsonschema leaves extend() without types
    # An empty registry that cannot retrieve: without one, jsonschema would fetch remote references.
    return Schema(checking(schema, registry=Registry()))


def _ensure_whole(schema: JsonValue, where: str) -> None:
    """Raise SettingsError for a reference that the document itself does not answer, or a pattern that is none."""
    names = {name.rstrip("#") for key in ("$id", "id") for name in _values_of(schema, key)}
    anchors = {name for key in _ANCHORS for name in _values_of(schema, key)}
    for reference in [reference for key in _REFERENCES for reference in _values_of(schema, key)]:
        document, _, fragment = reference.partition("#")
        if document and not any(name == document or name.endswith("/" + document) for name in names):
            raise SettingsError(
                f"{where}: $ref {reference!r} points outside the schema, and nothing is fetched; "
                "put what it refers to under $defs and point there with '#/$defs/NAME'."
            )
        # A schema within the schema that has an $id of its own counts places from there.
        if not document and len(names) < 2 and fragment not in anchors and not _has_place(schema, fragment):
            raise SettingsError(f"{where}: $ref {reference!r} points to nothing in the schema.")
    for pattern in _values_of(schema, "pattern"):
        compiled(pattern, f"{where}: pattern")


def _has_place(value: JsonValue, pointer: str) -> bool:
    """Tell whether a JSON pointer (RFC 6901) leads somewhere."""
    for step in pointer.split("/")[1:]:
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return False
    return not pointer or pointer.startswith("/")


def _values_of(value: JsonValue, key: str) -> Iterator[str]:
    """Yield every text under a key, at any depth."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            found = inner.get(key)
            if isinstance(found, str):
                yield found
            waiting += inner.values()
        elif isinstance(inner, list):
            waiting += inner


def _unique_items(
    validator: Validator, unique: bool, instance: JsonValue, schema: Mapping[str, JsonValue]
) -> Iterator[ValidationError]:
    if unique and isinstance(instance, list):
        distinct = {written(item, any_order=False) for item in instance}
        if len(distinct) != len(instance):
            yield ValidationError("has elements that are the same")


def _pattern(validator: Validator, pattern: str, instance: JsonValue, schema: JsonObject) -> Iterator[ValidationError]:
    if isinstance(instance, str) and search(compiled(pattern, "pattern"), instance)[0] is not Found.YES:
        yield ValidationError(f"does not match {pattern}")


def _place(error: ValidationError | SchemaError) -> str:
    """Write the path to a value with `[]` for any element, so that the same fault counts as one wherever it is."""
    steps = "".join("[]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    return "$" + steps


def _short(fault: ValidationError) -> str:
    """Say what was expected, never what was found, so that the same fault of many answers counts as one."""
    if fault.validator == "required":
        return fault.message.removesuffix(" is a required property")
    expected = cast(JsonValue, fault.validator_value)
    return "" if expected is None or isinstance(expected, dict) else str(expected)[:_LONGEST_DETAIL]
