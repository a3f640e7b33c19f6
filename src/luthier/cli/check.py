"""The commands that look at data before anything is trained: `luthier check` and `luthier split`."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from luthier.cli import options, screen
from luthier.core.errors import Stopped

FINDINGS = 3  # the exit code of findings above a limit

app = typer.Typer()


@app.command()
def check(
    data: options.Data = None,
    input: options.Input = None,
    output: options.Output = None,
    test: options.Test = None,
    validation: options.Validation = None,
    group: options.Group = None,
    model: Annotated[str | None, typer.Option(help="Measure rows in the tokens of this model.")] = None,
    config: options.Config = None,
    set: options.Set = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the findings as a page to read.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT.jsonl", help="Write the rows mended, and decisions.jsonl beside them.")
    ] = None,
    decisions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --fix: do what this edited decisions.jsonl says instead.")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Use what an earlier look found.")] = True,
    json: options.Json = False,
) -> None:
    """Find what is wrong with data before training on it. Exit code 3: health below a limit."""
    from luthier.recipes import check as recipe
    from luthier.recipes import mend
    from luthier.recipes.check_words import as_json, as_text
    from luthier.recipes.voice import Voice

    if decisions is not None and fix is None:
        raise typer.BadParameter("name the file to write with --fix OUT.jsonl", param_hint="--decisions")
    if decisions is not None and report is not None:
        raise typer.BadParameter("no check looks where decisions are applied; leave it out", param_hint="--report")
    settings = options.settings(
        config, set, options.data_flags(data, input, output, test, validation, group) | {"model.name": model}
    )
    _end_when_asked()
    if fix is not None and decisions is not None:
        sums = mend.apply(settings.data, decisions, fix, Voice())
        screen.show({**sums} if json else str(fix))
        return
    if fix is not None:
        diagnosis, _ = mend.check_and_fix(None, settings, fix, Voice())
    else:
        diagnosis = recipe.check(None, settings, Voice(), use_cache=cache)
    if report is not None:
        recipe.write_report(report, diagnosis, settings)
    screen.show(as_json(diagnosis) if json else as_text(diagnosis))
    if diagnosis.crossed:
        raise typer.Exit(FINDINGS)


@app.command()
def split(
    out: Annotated[Path, typer.Option(help="The folder for the parts; absent or empty.")],
    data: options.Data = None,
    input: options.Input = None,
    output: options.Output = None,
    test: options.Test = None,
    validation: options.Validation = None,
    group: options.Group = None,
    config: options.Config = None,
    set: options.Set = None,
    json: options.Json = False,
) -> None:
    """Write training, validation and test parts with the proof that nothing leaks between them."""
    from luthier.recipes import split as recipe
    from luthier.recipes.voice import Voice

    settings = options.settings(config, set, options.data_flags(data, input, output, test, validation, group))
    _end_when_asked()
    certificate = recipe.split(None, settings, out, Voice())
    screen.show(certificate if json else str(out))


def _end_when_asked() -> None:
    """End at once at Ctrl-C and SIGTERM, for there is no run to go on with."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop_looking)


def _stop_looking(number: int, frame: FrameType | None) -> None:
    raise Stopped(number, "stopped; nothing was written.")
