"""`luthier.compare`, and what the command does: the verdict of a run, or a look ahead where nothing is tuned yet."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from luthier.config.load import load
from luthier.core.errors import SettingsError
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject, JsonValue
from luthier.recipes import compare as verdict
from luthier.recipes import prospect
from luthier.recipes.api import Run, assignments_of, data_flags, own_bars
from luthier.recipes.prepare import Source
from luthier.recipes.voice import Voice


def compare(
    run_or_rows: Run | Source,
    *,
    arms: Sequence[str] = (),
    prompts: Sequence[str | Path] = (),
    knowledge: str | Path | None = None,
    margin: float | None = None,
    model: str | Path | None = None,
    input: str | None = None,
    output: str | Sequence[str] | None = None,
    test: str | Path | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, JsonValue] | None = None,
    quiet: bool = False,
) -> Run:
    """Make the verdict of a run anew, as `luthier compare` does; given data instead, say before tuning whether it may pay.

    `run_or_rows` is a `Run` or the path of its folder; or data as `luthier.run` takes it, and then `model` to `out` are those of
    `luthier.run`. `settings` are dotted keys such as `{"compare.endpoint.url": "http://localhost:8000/v1"}`. What the arms answered
    before is not asked again. The result has a `verdict`, or before tuning an `outlook`.
    """
    changes: JsonObject = {
        "compare.arms": [*arms] or None, "compare.prompts": [str(file) for file in prompts] or None,
        "compare.knowledge": None if knowledge is None else str(knowledge), "compare.margin": margin,
    }  # fmt: skip
    of_data = data_flags(model, input, output, test)
    target = run_or_rows.path if isinstance(run_or_rows, Run) else run_or_rows
    to = None if out is None else Path(out)
    with own_bars():
        folder = compared(target, changes, assignments_of(settings), of_data, to, Voice(quiet=quiet))
    return Run(folder.path)


def compared(
    target: Source, changes: JsonObject, assignments: Sequence[str], of_data: JsonObject, out: Path | None, voice: Voice
) -> RunDir:
    """Return the folder with the verdict, or the outlook, that was asked for.

    A folder with settings is a run; a file, rows from Python, and anything else beside a model are data. `of_data` are the
    settings that only data can still be given, by their dotted keys.
    """
    named = Path(target) if isinstance(target, str | Path) else None
    is_run = named is not None and RunDir(named).config.exists()
    if named is None or (not is_run and (of_data["model.name"] is not None or named.is_file())):
        return prospect.prospect(target, load((), assignments, changes | of_data), out, voice)
    given = [key for key, value in (of_data | {"--out": out}).items() if value is not None]
    if given:
        raise SettingsError(
            f"{given[0]} goes with data, and {named} is taken for a run, which has its own; leave it out."
        )
    if prospect.is_outlook(named):
        return prospect.go_on(named, changes, assignments, voice)
    return verdict.compare(named, voice, changes, assignments)
