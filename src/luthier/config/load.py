"""Settings from their three sources, in this order: defaults, YAML files left to right, `--set a.b=c`.

All problems are collected and raised at once, each with its dotted key and its source.
"""

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import yaml
from pydantic import BaseModel, ValidationError

from luthier.config.settings import Settings
from luthier.core.errors import SettingsError, nearest
from luthier.core.types import JsonObject, JsonValue

_YAML_11_BOOLEANS = {"yes", "no", "on", "off", "y", "n"}


def load(files: Sequence[Path] = (), assignments: Sequence[str] = (), flags: JsonObject | None = None) -> Settings:
    """Read the settings; `flags` are dotted keys from command-line flags, None values left out.

    Raises SettingsError that lists every problem.
    """
    problems: list[str] = []
    tree: JsonObject = {}
    for file in files:
        _merge(tree, _read_yaml(file, problems))
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(tree, key, value)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            problems.append(f"--set {assignment}: expected section.key=value")
            continue
        _assign(tree, key.strip(), _parse(text, f"--set {key}", problems))
    return parse(tree, problems)


def parse(tree: JsonObject, problems: list[str] | None = None) -> Settings:
    """Check a tree of settings; raise SettingsError that lists every problem, `problems` first."""
    problems = list(problems or [])
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += problems_of(error, Settings)
    else:
        if not problems:
            return settings
    raise SettingsError("the settings cannot be used:\n  " + "\n  ".join(problems))


def dump(settings: Settings) -> str:
    """Write settings as YAML with every value, in the order of the schema."""
    return yaml.safe_dump(
        settings.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True, width=110
    )


def with_values(settings: Settings, values: JsonObject) -> Settings:
    """Return settings with dotted keys replaced, such as {"train.lr": 1e-4}; checked again."""
    tree: JsonObject = settings.model_dump(mode="json", by_alias=True)
    for key, value in values.items():
        _assign(tree, key, value)
    return parse(tree)


def dotted(section: type[BaseModel] = Settings, prefix: str = "") -> dict[str, str]:
    """Map every dotted key of the tree to its description, in order."""
    keys: dict[str, str] = {}
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        inner = _section(field.annotation)
        keys[key] = field.description or ""
        if inner is not None:
            keys |= dotted(inner, key + ".")
    return keys


def read_yaml(file: Path) -> JsonValue:
    """Return what a YAML file holds, with the strictness of settings; raise SettingsError where it cannot be read."""
    try:
        with file.open(encoding="utf-8") as stream:
            return cast(JsonValue, yaml.load(stream, Loader=_Loader))  # noqa: S506 - a SafeLoader with two more checks
    except FileNotFoundError as error:
        raise SettingsError(f"there is no settings file {file}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid YAML: {error}") from error


def yaml_value(text: str, where: str) -> JsonValue:
    """Return the value that a text is in YAML; raise SettingsError naming `where` it stands."""
    problems: list[str] = []
    value = _parse(text, where, problems)
    if problems:
        raise SettingsError(problems[0])
    return value


def _section(annotation: object) -> type[BaseModel] | None:
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def problems_of(error: ValidationError, section: type[BaseModel]) -> list[str]:
    """Say each thing that is wrong with a tree of settings of this kind, with its dotted key."""
    known = dotted(section)
    return [_problem(detail["loc"], detail["type"], detail["msg"], known) for detail in error.errors()]


def _problem(location: tuple[int | str, ...], kind: str, message: str, known: dict[str, str]) -> str:
    key = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        return f"{key}: there is no such setting.{nearest(key, known)}"
    return f"{key}: {message[0].lower()}{message[1:]}"


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice and keeps 1.1's yes/no/on/off from turning into booleans."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, JsonValue]:
    seen: dict[str, JsonValue] = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if key in seen:
            mark = key_node.start_mark
            raise SettingsError(f"{mark.name}:{mark.line + 1}: the key {key!r} stands twice in one section.")
        seen[key] = loader.construct_object(value_node, deep=True)  # pyright: ignore[reportUnknownMemberType]
    return seen


def _boolean(loader: _Loader, node: yaml.ScalarNode) -> bool:
    if node.value.lower() in _YAML_11_BOOLEANS:
        mark = node.start_mark
        raise SettingsError(f"{mark.name}:{mark.line + 1}: write true or false instead of {node.value!r}, or quote it.")
    return node.value.lower() == "true"


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)


def _read_yaml(file: Path, problems: list[str]) -> JsonObject:
    tree = read_yaml(file)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        problems.append(f"{file}: expected sections such as `train:`, found {type(tree).__name__}")
        return {}
    return tree


def _parse(text: str, where: str, problems: list[str]) -> JsonValue:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with two more checks
    except yaml.YAMLError:
        problems.append(f"{where}: {text!r} is not a YAML value")
        return None


def _merge(tree: JsonObject, other: JsonObject) -> None:
    for key, value in other.items():
        mine = tree.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            _merge(mine, value)
        else:
            tree[key] = value


def _assign(tree: JsonObject, key: str, value: JsonValue) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = tree.get(section)
        if not isinstance(inner, dict):
            inner = tree[section] = {}
        tree = inner
    tree[last] = value
