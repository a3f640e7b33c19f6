"""The command line: one short function a command; what it does is in `recipes/`.

Words and progress go to standard error, results to standard output. Imports that take time stand
inside the commands, so that help answers at once.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli import backup, bases, check, distill, grade, migrate, options, plan, screen, serve
from luthier.core.errors import LuthierError, Stopped
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject, JsonValue

if TYPE_CHECKING:
    from rich.console import RenderableType


app = typer.Typer(
    name="luthier", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Fine-tune language models end to end: raw examples in, a tuned model and the measured proof out.",
)  # fmt: skip


@app.command()
def run(
    data: options.Data = None,
    model: options.Model = None,
    input: options.Input = None,
    output: options.Output = None,
    test: options.Test = None,
    validation: options.Validation = None,
    group: options.Group = None,
    constrain: options.Constrain = None,
    decode: options.Decode = None,
    seeds: options.Seeds = None,
    config: options.Config = None,
    set: options.Set = None,
    out: options.Out = None,
    json: options.Json = False,
) -> None:
    """Read, check, split, plan, train, compare, export, report."""
    from luthier.recipes import run as recipe
    from luthier.recipes.doctor import say_model

    flags = {"model.name": model, "generate.constrain": constrain, "generate.decode": decode, "compare.seeds": seeds}
    settings = options.settings(config, set, options.data_flags(data, input, output, test, validation, group) | flags)
    voice = screen.voice()
    say_model(settings, voice)
    _show_verdict(recipe.run(None, settings, out, voice), json)


@app.command()
def train(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="A YAML file of settings.")],
    set: options.Set = None,
    out: options.Out = None,
    json: options.Json = False,
) -> None:
    """Train what a settings file says, up to the exported weights."""
    from luthier.recipes import run as recipe

    _show_package(recipe.train(options.settings([file], set, {}), out, screen.voice()), json)


@app.command()
def resume(run: options.Run, json: options.Json = False) -> None:
    """Go on at the first stage that did not finish."""
    from luthier.recipes import run as recipe

    folder = recipe.resume(run, screen.voice())
    if folder.verdict.exists():
        _show_verdict(folder, json)
    else:
        _show_package(folder, json)


@app.command()
def compare(
    run: Annotated[str, typer.Argument(metavar="RUN_OR_DATA", help="A run folder; or data, before anything is tuned.")],
    arms: Annotated[
        str | None, typer.Option(metavar="ARM[,ARM...]", help="Who answers; those of the run and what the flags add.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A system prompt to try; may be given several times.")
    ] = None,
    knowledge: options.Knowledge = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible address; it gets to read the questions.")
    ] = None,
    endpoint_model: Annotated[str | None, typer.Option(metavar="NAME", help="The model to ask there.")] = None,
    margin: options.Margin = None,
    grader: options.Graders = None,
    schema: options.SchemaFile = None,
    price: Annotated[str | None, typer.Option(metavar="FILE", help="Prices per token or hour, as YAML.")] = None,
    seeds: options.Seeds = None,
    against: options.Against = None,
    constrain: options.Constrain = None,
    decode: options.Decode = None,
    model: Annotated[
        list[str] | None, typer.Option(help="With data: the model that would be tuned; of several: luthier bases.")
    ] = None,
    set: options.Set = None,
    json: options.Json = False,
) -> None:
    """Show a run's verdict; answer what is not yet answered. With data: tell before tuning whether it may pay."""
    from luthier.recipes import compare_api as recipe
    from luthier.recipes.grading import named_graders

    if len(model or []) > 1:
        command = " ".join(["luthier bases", run, *(f"--model {name}" for name in model or [])])
        raise typer.BadParameter(f"one model is tuned; to choose between several: {command}", param_hint="--model")
    base: JsonObject = {"model.name": model[0] if model else None}
    changes: JsonObject = {
        "compare.arms": [*arms.split(",")] if arms else None, "compare.prompts": [*prompt] if prompt else None,
        "compare.knowledge": knowledge, "compare.endpoint.url": endpoint, "compare.endpoint.model": endpoint_model,
        "generate.constrain": constrain, "generate.decode": decode,
        "compare.margin": margin, "compare.price": price, "compare.seeds": seeds, **named_graders(grader or [], schema),
    }  # fmt: skip
    if against:
        screen.show(_against(Path(run), against, changes | base, set, json))
        return
    folder = recipe.compared(run, changes, set or [], base, None, screen.voice())
    show = _show_verdict if folder.verdict.exists() else _show_outlook
    show(folder, json)


@app.command()
def chat(
    run: options.Run,
    arm: Annotated[str, typer.Option(help="zero_shot or tuned.")] = "tuned",
    prompt: Annotated[str | None, typer.Option(help="Answer this one prompt and end.")] = None,
) -> None:
    """Talk with the tuned model, or with the base model."""
    from luthier.recipes import chat as recipe

    screen.hide_weight_bars()
    for piece in recipe.chat(run, arm, prompt, sys.stdin):
        print(piece, end="", flush=True)


@app.command()
def export(
    run: options.Run,
    format: Annotated[str, typer.Option(help="adapter, merged or promptfoo.")],
    to: Annotated[Path | None, typer.Option(help="The folder to write; the run's own package when absent.")] = None,
    json: options.Json = False,
) -> None:
    """Write the adapter or merged weights, proven equal to the trained model; or the test and its grader for promptfoo."""
    from luthier.recipes import export as recipe
    from luthier.recipes.promptfoo import export_promptfoo

    if format == "promptfoo":
        suite = str(export_promptfoo(run, to))
        screen.show({"suite": suite} if json else suite)
        return
    path, certificate = recipe.export(run, format, to, screen.voice())
    screen.show({"package": str(path), "certificate": certificate} if json else str(path))


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs.")] = Path("runs"),
    json: options.Json = False,
) -> None:
    """List the runs in a folder, newest first."""
    from luthier.recipes import runs as recipe

    screen.show(recipe.runs(folder) if json else recipe.table(folder))


@app.command()
def show(
    run: options.Run,
    row: Annotated[str | None, typer.Option(help="The number of a training row (1 is the first) or a row id.")] = None,
    json: options.Json = False,
) -> None:
    """Show where a run stands, or one row with its trained tokens highlighted."""
    from luthier.recipes import show as recipe

    screen.show(recipe.as_json(run, row) if json else recipe.as_text(run, row))


@app.command()
def doctor(json: options.Json = False) -> None:
    """Say what this machine has, what is fast on it, and which models fit."""
    from luthier.recipes import doctor as recipe

    facts = recipe.doctor()
    screen.show(facts if json else recipe.as_text(facts))


@app.command()
def schema() -> None:
    """Print the JSON schema of the settings."""
    from luthier.config.settings import Settings

    screen.show(Settings.model_json_schema())


app.add_typer(backup.app)
app.add_typer(bases.app)
app.add_typer(check.app)
app.add_typer(distill.app)
app.add_typer(grade.app)
app.add_typer(migrate.app)
app.add_typer(plan.app)
app.add_typer(serve.app)


def main() -> None:
    """Run the command line; errors become one message and an exit code, wrong usage is 2."""
    signal.signal(signal.SIGTERM, _stop)
    if os.environ.get("RANK", "0") != "0":  # of processes that torchrun started, the first one talks
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        app()
    except LuthierError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:  # whoever read the output has seen enough, as in `luthier check DATA | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        _fail(f"failed: {error}", 1)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number, "stopped; what was finished is kept. Go on with: luthier resume RUN")


def _fail(message: str, code: int) -> None:
    print(f"luthier: {message}", file=sys.stderr)
    sys.exit(code)


def _against(
    run: Path, others: list[Path], changes: JsonObject, assignments: list[str] | None, as_json: bool
) -> "JsonValue | RenderableType":
    """Compare finished runs; answers that lie there are compared as they are, so only the margin can be another."""
    from luthier.recipes import against as recipe

    margin = changes.pop("compare.margin")
    if assignments or any(value is not None for value in changes.values()):
        raise typer.BadParameter("only --margin goes with it", param_hint="--against")
    found = recipe.against(run, others, float(str(margin)) if margin is not None else None)
    return found if as_json else recipe.as_table(found)


def _show_package(folder: RunDir, as_json: bool) -> None:
    screen.show({"run": str(folder.path), "package": str(folder.package)} if as_json else str(folder.package))


def _show_outlook(folder: RunDir, as_json: bool) -> None:
    from luthier.verdict.table import terminal_table

    found = json.loads(folder.outlook.read_text(encoding="utf-8"))
    screen.show(found if as_json else terminal_table(found))


def _show_verdict(folder: RunDir, as_json: bool) -> None:
    verdict = json.loads(folder.verdict.read_text(encoding="utf-8"))
    if as_json:
        screen.show(verdict)
        return
    from luthier.verdict.table import terminal_table

    screen.show(terminal_table(verdict))
    print(f"\nreport: {folder.report}")


if __name__ == "__main__":
    main()
