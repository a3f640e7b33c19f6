"""The command `luthier bases`: which base model to tune."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli import options, screen

app = typer.Typer()


@app.command()
def bases(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file, folder or glob; or hub:<data set id>.")],
    model: Annotated[
        list[str], typer.Option(help="A hub id, a local folder, or `starter`; again for each model to choose from.")
    ],
    rows: Annotated[int, typer.Option(min=1, help="How many training rows each model learns from.")] = 300,
    input: options.Input = None,
    output: options.Output = None,
    margin: options.Margin = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write; the same command goes on in it.")] = None,
    set: options.Set = None,
    json: options.Json = False,
) -> None:
    """Train each model for a short time and compare them on validation rows; the test part stays closed."""
    from luthier.config.load import load
    from luthier.recipes.bases import RESULT
    from luthier.recipes.bases import bases as recipe
    from luthier.verdict.bases import bases_table

    flags = {
        "data.path": data, "data.input": input, "data.output": [*output.split(",")] if output else None, "compare.margin": margin,
    }  # fmt: skip
    folder = recipe(model, rows, load((), set or [], flags), out, screen.voice())
    found = json_module.loads((folder / RESULT).read_text(encoding="utf-8"))
    screen.show(found if json else bases_table(found))
