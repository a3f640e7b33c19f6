"""The options that several commands share, each with its one word of help."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.core.types import JsonObject

if TYPE_CHECKING:
    from luthier.config.settings import Settings

Data = Annotated[str | None, typer.Argument(metavar="DATA", help="A file, folder or glob; or hub:<data set id>.")]
Input = Annotated[str | None, typer.Option(help="The column with the input.")]
Output = Annotated[
    str | None,
    typer.Option(metavar="COLUMN[,COLUMN...]", help="The column with the answer; several become one JSON object."),
]
Test = Annotated[str | None, typer.Option(help="Your own test file.")]
Validation = Annotated[str | None, typer.Option(help="Your own validation file.")]
Group = Annotated[str | None, typer.Option(help="Rows with one value of this column stay on one side of the split.")]
Model = Annotated[str | None, typer.Option(help="A hub id, a local folder, or `starter`, which ships with Luthier.")]
Constrain = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="Hold answers to `labels`, `json`, `spans` of the question, `pattern:REGEX` or a JSON schema's file.",
    ),
]
Decode = Annotated[str | None, typer.Option(metavar="generate|score", help="Write answers, or score the labels.")]
Graders = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Who judges, as in `luthier grade`; further ones stand beside the first."),
]
SchemaFile = Annotated[
    str | None, typer.Option(metavar="FILE.json", help="A JSON schema; how many answers conform stands beside.")
]
Against = Annotated[
    list[Path] | None,
    typer.Option(metavar="RUN", help="Compare the arms with those of this run; several for seeds."),
]
Config = Annotated[list[Path] | None, typer.Option("--config", help="A YAML file of settings; later files win.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; see `luthier schema`.")
]
Seeds = Annotated[int | None, typer.Option(help="Repeat the training under so many seeds.")]
Margin = Annotated[float | None, typer.Option(help="The smallest difference in score that is worth its price.")]
Knowledge = Annotated[
    str | None, typer.Option(metavar="DIR", help="Text and Markdown files from which passages are retrieved.")
]
Out = Annotated[Path | None, typer.Option(help="The run folder; absent or empty.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on standard output.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def settings(config: list[Path] | None, assignments: list[str] | None, flags: JsonObject) -> "Settings":
    """Return the settings that files, assignments and flags make, later ones winning."""
    from luthier.config.load import load

    return load(config or [], assignments or [], flags)


def data_flags(
    data: str | None, input: str | None, output: str | None, test: str | None, validation: str | None, group: str | None
) -> JsonObject:
    """Return what the flags that name data say, by setting."""
    return {
        "data.path": data, "data.input": input, "data.output": [*output.split(",")] if output else None,
        "data.test": test, "data.validation": validation, "data.group": group,
    }  # fmt: skip
