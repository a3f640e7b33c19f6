"""The command `luthier distill`: a long prompt goes into the weights."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli import options, screen

app = typer.Typer()


@app.command()
def distill(
    prompt: Annotated[
        Path, typer.Option(metavar="FILE", help="The long system prompt that is to go into the weights.")
    ],
    inputs: Annotated[
        str,
        typer.Option(metavar="FILE", help="What users ask: JSONL, JSON, CSV, TSV or Parquet; answers are not needed."),
    ],
    model: Annotated[str | None, typer.Option(help="A hub id, a local folder, or `starter`.")] = None,
    short: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The system prompt that is left afterwards; none when absent.")
    ] = None,
    input: options.Input = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="COLUMN[,COLUMN...]", help="The column with the right answer, where there is one."),
    ] = None,
    grader: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:SETTING=VALUE,...]", help="A grader that filters the answers; may be repeated."),
    ] = None,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="The least score that an answer needs from each grader.")
    ] = 1.0,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Let a model behind an OpenAI-compatible address answer.")
    ] = None,
    endpoint_model: Annotated[str | None, typer.Option(metavar="NAME", help="The model to ask there.")] = None,
    terms: Annotated[
        str | None,
        typer.Option(
            help="The licence or contract by which the endpoint's answers may train a model; kept in the result."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write; the same command goes on in it.")] = None,
    set: options.Set = None,
    json: options.Json = False,
) -> None:
    """Tune a long prompt into the weights; compare with it on sealed rows, and show the token bill before and after."""
    from luthier.config.load import load
    from luthier.recipes.distill import RESULT, Wish
    from luthier.recipes.distill import distill as recipe
    from luthier.verdict.distilled import distilled_table

    flags = {
        "model.name": model, "data.input": input, "data.output": [*output.split(",")] if output else None,
        "compare.endpoint.url": endpoint, "compare.endpoint.model": endpoint_model,
    }  # fmt: skip
    wish = Wish(prompt, inputs, short, tuple(grader or ()), least, terms)
    folder = recipe(wish, load((), set or [], flags), out, screen.voice())
    found = json_module.loads((folder / RESULT).read_text(encoding="utf-8"))
    screen.show(found if json else distilled_table(found))
