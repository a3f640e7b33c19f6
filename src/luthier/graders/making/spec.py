"""Graders as the user names them: a name, a name with settings, a class in a file, or a file of several.

    exact
    regex:pattern=^\\d{3}$,where=whole
    mine.py:Shouts:least=3
    graders.yaml

A grader's settings are the fields of its class, a frozen dataclass; their types say how a value is read.
A comma parts two settings only where a name and `=` follow it, so a pattern keeps its own commas.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast, runtime_checkable

from pydantic import TypeAdapter, ValidationError

from luthier.config.load import read_yaml, yaml_value
from luthier.core import parts
from luthier.core.errors import SettingsError, nearest
from luthier.core.types import Grader, JsonObject, JsonValue
from luthier.graders.making import openai

GRADERS = "luthier.graders"
_FILES = (".yaml", ".yml", ".json")
# `policy:rules=house.yaml` ends like a file of graders, and is a grader with a setting.
_WITH_SETTINGS = re.compile(r"[^:]+(\.py:\w+)?:[a-z_]+=.*", re.DOTALL)
_NEXT_SETTING = re.compile(r",(?=[a-z_]+=)")


@dataclass(frozen=True, slots=True)
class NamedGrader:
    """A grader that is ready to grade: `name` is what the user called it, `meaning` what its score says."""

    name: str
    grader: Grader
    meaning: str


@runtime_checkable
class Learner(Protocol):
    """A grader that can learn from training answers what a good answer is like."""

    def learned(self, answers: Sequence[str]) -> Grader:
        """Return the grader that judges by these answers."""
        ...


@runtime_checkable
class MayNeedNoAnswer(Protocol):
    """A grader that says whether it looks at the wanted answer; others always do."""

    @property
    def needs_answer(self) -> bool:
        """Whether a row without a wanted answer cannot be graded."""
        ...


def grader_named(spec: str) -> NamedGrader:
    """Make one grader of what the user wrote; raise SettingsError where it cannot be made, or is a file of several."""
    made = graders_named([spec])
    if len(made) != 1:
        raise SettingsError(f"{spec} holds {len(made)} graders where one is asked for: name one of them.")
    return made[0]


def graders_named(specs: Sequence[str]) -> list[NamedGrader]:
    """Make every grader that the user named, in order; no name may come twice."""
    made: list[NamedGrader] = []
    for spec in specs:
        is_file = spec.endswith(_FILES) and not _WITH_SETTINGS.fullmatch(spec)
        made += _from_file(Path(spec)) if is_file else [_from_words(spec)]
    names = [one.name for one in made]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise SettingsError(
            f"the grader {twice[0]!r} is given twice; in a file, tell them apart with `as: another name`."
        )
    return made


def grader_class(name: str) -> type:
    """Return the class of a grader by its name; raise SettingsError with the nearest right one."""
    found = parts.load(GRADERS, name, "Grader")
    if not isinstance(found, type) or not all(callable(getattr(found, one, None)) for one in ("grade", "metrics")):
        raise SettingsError(f"{name} is no grader: a grader is a class with the methods `grade` and `metrics`.")
    return found


def needs_answer(grader: Grader) -> bool:
    """Tell whether a grader looks at the wanted answer."""
    return grader.needs_answer if isinstance(grader, MayNeedNoAnswer) else True


def learned(named: NamedGrader, answers: Sequence[str]) -> NamedGrader:
    """Let a grader that can learn do so from training answers; return any other as it is."""
    if not isinstance(named.grader, Learner) or not answers:
        return named
    return dataclasses.replace(named, grader=named.grader.learned(answers))


def made(name: str, settings: Mapping[str, JsonValue], folder: Path, called: str | None = None) -> NamedGrader:
    """Make a grader by name; values are checked against the fields' types, paths are relative to `folder`."""
    kind = grader_class(name)
    hints = setting_types(kind)
    problems = [
        f"{name}.{key}: there is no such setting.{nearest(key, hints)} "
        + (f"There are: {', '.join(hints)}." if hints else "It takes none.")
        for key in settings
        if key not in hints
    ]
    values: dict[str, object] = {}
    for key, hint in hints.items():
        if key in settings:
            values[key] = _checked(f"{name}.{key}", settings[key], hint, folder, problems)
        elif key not in setting_defaults(kind):
            problems.append(f"{name}.{key}: must be given, as in --grader {name}:{key}=...")
    if problems:
        raise SettingsError("the grader cannot be made:\n  " + "\n  ".join(problems))
    grader: Grader = kind(**values)
    return NamedGrader(called or name, grader, str(getattr(kind, "meaning", f"score of {name}")))


def setting_types(kind: type) -> dict[str, object]:
    """Map the settings of a grader's class to their types."""
    if not dataclasses.is_dataclass(kind):
        return {}
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def setting_defaults(kind: type) -> dict[str, object]:
    """Map the settings that need not be given to their defaults."""
    if not dataclasses.is_dataclass(kind):
        return {}
    fields = [field for field in dataclasses.fields(kind) if field.init and field.default is not dataclasses.MISSING]
    return {field.name: field.default for field in fields}


def _from_words(spec: str) -> NamedGrader:
    own = re.match(r".*\.py:\w+", spec)
    name = own.group() if own else spec.partition(":")[0]
    written = spec[len(name) :].removeprefix(":")
    hints = setting_types(grader_class(name))
    settings: JsonObject = {}
    for setting in _NEXT_SETTING.split(written) if written else []:
        key, equals, text = setting.partition("=")
        if not equals:
            raise SettingsError(f"--grader {spec}: expected setting=value after the name, found {setting!r}.")
        settings[key] = text if _is_text(hints.get(key, str)) else yaml_value(text, f"{name}.{key}")
    return made(name, settings, Path(), spec)


def _from_file(file: Path) -> list[NamedGrader]:
    """Read graders from a YAML or JSON file: one mapping or a list of them, ours by `grader`, OpenAI's by `type`."""
    content = read_yaml(file)
    if isinstance(content, dict) and set(content) == {"graders"}:
        content = content["graders"]
    entries = content if isinstance(content, list) else [content]
    return [
        _from_entry(entry, f"{file}: grader {number}", file.parent) for number, entry in enumerate(entries, start=1)
    ]


def _from_entry(entry: JsonValue, where: str, folder: Path) -> NamedGrader:
    if not isinstance(entry, dict):
        raise SettingsError(f"{where}: expected a mapping with `grader: NAME` and its settings, found {entry!r}.")
    if "type" in entry and "grader" not in entry:
        grader = openai.grader_from(entry, where)
        return NamedGrader(str(entry.get("name") or entry["type"]), grader, grader.meaning)
    if not isinstance(entry.get("grader"), str):
        raise SettingsError(f"{where}: `grader: NAME` is missing; OpenAI's objects have `type` instead.")
    settings = {key: value for key, value in entry.items() if key not in ("grader", "as")}
    called = entry.get("as", entry["grader"])
    return made(str(entry["grader"]), settings, folder, str(called))


def _checked(key: str, value: JsonValue, hint: object, folder: Path, problems: list[str]) -> object:
    if _is_list(hint) and isinstance(value, str | int | float):
        value = [value]
    try:
        checked: object = TypeAdapter(cast("type[object]", hint)).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        problems.append(f"{key}: {message[0].lower()}{message[1:]}, found {value!r}")
        return None
    return folder / checked if isinstance(checked, Path) else checked


def _is_text(hint: object) -> bool:
    return any(option is str or option is Path or typing.get_origin(option) is Literal for option in _options(hint))


def _is_list(hint: object) -> bool:
    return any(typing.get_origin(option) is tuple for option in _options(hint))


def _options(hint: object) -> tuple[object, ...]:
    if typing.get_origin(hint) is typing.Annotated:
        return _options(typing.get_args(hint)[0])
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
