"""The command `luthier plan`: what a training would take, here and on named GPUs."""

from typing import Annotated

import typer

from luthier.cli import options, screen
from luthier.core.types import JsonObject

app = typer.Typer()


@app.command()
def plan(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file, folder or glob; or hub:<data set id>.")],
    model: Annotated[
        str | None, typer.Option(help="A hub id, a local folder, or `starter`; config and tokenizer are enough.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="full|lora", help="Train every weight, or low-rank layers.")
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=PRICE]", help="A GPU to plan for, such as h100=2.5; again for more."),
    ] = None,
    price: Annotated[float | None, typer.Option(min=0, help="What an hour of a machine costs.")] = None,
    input: options.Input = None,
    output: options.Output = None,
    set: options.Set = None,
    json: options.Json = False,
) -> None:
    """Say what a training would take: memory, tokens, operations, time, disk, money; and what makes it fit."""
    from luthier.config.load import load
    from luthier.recipes.forecast import plan as recipe
    from luthier.recipes.forecast_words import as_table

    flags: JsonObject = {
        "data.path": data, "model.name": model, "train.method": method, "data.input": input,
        "data.output": [*output.split(",")] if output else None,
    }  # fmt: skip
    found = recipe(None, load((), set or [], flags), gpu or [], price, screen.voice())
    screen.show(found if json else as_table(found))
