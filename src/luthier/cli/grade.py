"""The commands about graders: `luthier grade` and `luthier graders`."""

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer()

_PIPE_WIDTH = 160


@app.command()
def grade(
    answers: Annotated[
        str,
        typer.Argument(
            metavar="ANSWERS", help="A file of answers: JSONL, JSON, CSV, TSV, Parquet; or a run's answers/ARM.parquet."
        ),
    ],
    grader: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:SETTING=VALUE,...]",
            help="A grader, a class as path.py:Name, or a YAML or JSON file of graders; may be repeated.",
        ),
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the question.")] = None,
    completion: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column with what the model answered.")
    ] = None,
    answer: Annotated[
        str,
        typer.Option(
            metavar="COLUMN[,COLUMN...]", help="The column with the wanted answer; several become one JSON object."
        ),
    ] = "",
    train: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Training rows for graders that learn from their answers, such as style."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst rows are shown for each grader.")] = 5,
    json: options.Json = False,
) -> None:
    """Grade answers that lie in a file."""
    from luthier.recipes import grade as recipe

    columns = [name for name in answer.split(",") if name]
    result = recipe.grade(
        answers, grader or [], prompt=prompt, completion=completion, answer=columns, train=train, worst=worst
    )
    if json:
        _print_json(result)
        return
    from luthier.recipes.grade_table import scores

    _print(scores(result))


@app.command()
def graders(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A grader, to see its settings.")] = None,
    json: options.Json = False,
) -> None:
    """List the graders with what they measure, or one with its settings."""
    from luthier.recipes import grade as recipe

    if json:
        _print_json(recipe.listed_as_json(name))
        return
    from luthier.recipes.grade_table import graders as shown

    _print(shown(recipe.listed(name)))


def _print_json(value: object) -> None:
    print(json_module.dumps(value, indent=1, ensure_ascii=False))


def _print(value: "RenderableType") -> None:
    from rich.console import Console

    # A pipe has no width of its own: rich would assume 80 columns and cut the table.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(value)
