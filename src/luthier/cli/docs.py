"""Write the parts of the documentation that the code knows best: each command's help, and every setting.

    python -m luthier.cli.docs docs

A command's page is prose with the help between two marks; `check.md` has the checks and `serve.md` the server's settings
between two more, and `models.md` the models whose rows may share what they begin with; only what stands between them is replaced.
`settings.md` is written whole.
"""

import sys
import typing
from pathlib import Path

import typer
from pydantic import BaseModel
from typer.core import TyperGroup

from luthier.cli.main import app
from luthier.config.serving import ServeSettings
from luthier.config.settings import Settings
from luthier.core import parts
from luthier.core.types import JsonValue
from luthier.data.examine import CHECKS, check_names
from luthier.train.sharing import CALLED, PROVEN

BEGIN, END = "<!-- help, from the code -->", "<!-- end of help -->"
BEGIN_CHECKS, END_CHECKS = "<!-- checks, from the code -->", "<!-- end of checks -->"
BEGIN_SERVING, END_SERVING = "<!-- settings, from the code -->", "<!-- end of settings -->"
BEGIN_MODELS, END_MODELS = "<!-- models, from the code -->", "<!-- end of models -->"
_WIDTH = 100
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_WORDS = {"string": "text", "array": "list", "boolean": "`true`, `false`"}


def commands() -> dict[str, str]:
    """Map every command to its help text."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    context = typer.Context(group, info_name="luthier")
    texts: dict[str, str] = {}
    for name, command in group.commands.items():
        inner = typer.Context(command, info_name=name, parent=context, terminal_width=_WIDTH, max_content_width=_WIDTH)
        texts[name] = command.get_help(inner).strip()
    return texts


def with_help(page: str, name: str, text: str) -> str:
    """Return a command's page with the help between the marks; a page without marks gets them at its end."""
    block = f"{BEGIN}\n```\n{text}\n```\n{END}"
    if BEGIN not in page:
        return (page.rstrip() or f"# luthier {name}") + f"\n\n{block}\n"
    return _between(page, BEGIN, END, block)


def with_checks(page: str) -> str:
    """Return a page with the table of checks between its marks; a page without marks stays as it is."""
    lines = ["| check | health | looks for | does not see |", "|---|---|---|---|"]
    for name in check_names():
        check = parts.load(CHECKS, name, "Check")
        looks_for = (sys.modules[check.__module__].__doc__ or "").strip().partition("\n\n")[0]
        cells = (f"`{name}`", check.dimension.replace("_", "-"), " ".join(looks_for.split()), check.blind)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    block = "\n".join([BEGIN_CHECKS, *lines, END_CHECKS])
    return _between(page, BEGIN_CHECKS, END_CHECKS, block) if BEGIN_CHECKS in page else page


def with_serving(page: str) -> str:
    """Return a page with the table of the server's settings between its marks; a page without marks stays as it is."""
    names = [name for name, field in ServeSettings.model_fields.items() if _section(field.annotation) is None]
    block = "\n".join([BEGIN_SERVING, *_table(ServeSettings, "", names), END_SERVING])
    return _between(page, BEGIN_SERVING, END_SERVING, block) if BEGIN_SERVING in page else page


def with_models(page: str) -> str:
    """Return a page with the table of models whose rows may share between its marks; a page without marks stays as it is."""
    lines = ["| models | `model_type` | `train.layout` |", "|---|---|---|"]
    for kind, layout in sorted(PROVEN.items(), key=lambda item: CALLED[item[0]].lower()):
        ways = "`cached_tree`" if layout == "cached_tree" else "`tree`, `cached_tree`"
        lines.append(f"| {CALLED[kind]} | `{kind}` | {ways} |")
    block = "\n".join([BEGIN_MODELS, *lines, END_MODELS])
    return _between(page, BEGIN_MODELS, END_MODELS, block) if BEGIN_MODELS in page else page


def settings_page() -> str:
    """Return the reference of all settings, one section a table."""
    lines = [
        "# Settings",
        "",
        "Every value can stand in a YAML file (`--config`, or the argument of `luthier train`) or be given as `--set section.key=value`.",
        "Empty defaults are chosen by Luthier and written back to the run's `config.yaml`. This page is made from the code.",
    ]
    top = [name for name, field in Settings.model_fields.items() if _section(field.annotation) is None]
    lines += ["", *_table(Settings, "", top)]
    for key, section in _sections(Settings, ""):
        inner = [name for name, field in section.model_fields.items() if _section(field.annotation) is None]
        lines += ["", f"## {key}", "", _first_line(section), "", *_table(section, key + ".", inner)]
    return "\n".join(lines) + "\n"


def write(folder: Path) -> list[Path]:
    """Bring every page in `folder` up to date; return those that changed."""
    models = folder / "models.md"
    pages = {folder / "settings.md": settings_page()}
    if models.exists():
        pages[models] = with_models(models.read_text(encoding="utf-8"))
    for name, text in commands().items():
        path = folder / "commands" / f"{name}.md"
        page = with_help(path.read_text(encoding="utf-8") if path.exists() else "", name, text)
        pages[path] = with_serving(with_checks(page))
    changed = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], encoding="utf-8")
    return changed


def _between(page: str, begin: str, end: str, block: str) -> str:
    before, _, rest = page.partition(begin)
    return before + block + rest.partition(end)[2]


def _sections(section: type[BaseModel], prefix: str) -> list[tuple[str, type[BaseModel]]]:
    found: list[tuple[str, type[BaseModel]]] = []
    for name, field in section.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None:
            found += [(prefix + name, inner), *_sections(inner, prefix + name + ".")]
    return found


def _section(annotation: object) -> type[BaseModel] | None:
    for option in typing.get_args(annotation) or (annotation,):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _table(section: type[BaseModel], prefix: str, names: list[str]) -> list[str]:
    schema = section.model_json_schema()["properties"]
    lines = ["| setting | values | default | |", "|---|---|---|---|"]
    for name in names:
        field = section.model_fields[name]
        key = field.alias or name
        chosen = field.get_default(call_default_factory=True)
        default = "" if chosen is None else f"`{_written(chosen)}`"
        cells = (f"`{prefix}{key}`", _values(schema[key]), default, (field.description or "").replace("\n", " "))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _values(schema: JsonValue) -> str:
    """Say in a few words what a JSON schema admits."""
    assert isinstance(schema, dict)
    if isinstance(options := schema.get("anyOf"), list):
        return " or ".join(_values(option) for option in options if option != {"type": "null"})
    if isinstance(names := schema.get("enum"), list):
        return ", ".join(f"`{name}`" for name in names)
    if "const" in schema:
        return f"`{schema['const']}`"
    limits = [f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema]
    kind = str(schema["type"])
    return " ".join([_WORDS.get(kind, kind), ", ".join(limits)]).strip()


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    for changed_page in write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        print(changed_page)
