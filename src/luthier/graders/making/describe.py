"""What a grader measures and which settings it takes, read from its code: the help of `luthier graders`."""

import ast
import inspect
import re
import sys
import textwrap
import types
import typing
from dataclasses import dataclass
from typing import Literal

from luthier.graders.making.spec import grader_class, setting_defaults, setting_types

_SENTENCE = re.compile(r".*?[.?!](?=\s|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SettingHelp:
    """One setting of a grader: `default` is None where it must be given."""

    name: str
    values: str
    default: str | None
    description: str


@dataclass(frozen=True, slots=True)
class GraderHelp:
    """What a grader is for: `measures` is the first sentence of its file, `about` all of it."""

    name: str
    measures: str
    about: str
    score: str
    settings: tuple[SettingHelp, ...]


def help_of(name: str) -> GraderHelp:
    """Return the help of a grader by its name; raise SettingsError where there is none of that name."""
    kind = grader_class(name)
    about = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or kind.__doc__ or "")
    sentence = _SENTENCE.match(" ".join(about.split()))
    score = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    return GraderHelp(name, sentence.group() if sentence else about, about, score, _settings(kind))


def _settings(kind: type) -> tuple[SettingHelp, ...]:
    described, defaults = _descriptions(kind), setting_defaults(kind)
    return tuple(
        SettingHelp(
            name, _values(hint), _written(defaults[name]) if name in defaults else None, described.get(name, "")
        )
        for name, hint in setting_types(kind).items()
    )


def _descriptions(kind: type) -> dict[str, str]:
    """Map every field to the text under it, which Python itself throws away."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as words)):
                found[name] = " ".join(words.split())
            case _:
                pass
    return found


def _values(hint: object) -> str:
    """Say in a few words what a type admits."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _values(inner[0])
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin is tuple:
        return f"list of {_values(inner[0])}s"
    if isinstance(hint, types.UnionType):
        return " or ".join(_values(option) for option in inner if option is not type(None))
    return {"str": "text", "Path": "file", "bool": "true, false", "int": "integer", "float": "number"}.get(
        getattr(hint, "__name__", ""), str(hint)
    )


def _written(default: object) -> str:
    if default is None or default == ():
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)
