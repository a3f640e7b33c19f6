"""Refuse what can be seen to fail from the settings alone, before a run folder is made.

Everything here is found again by the stage that it concerns; found here, it costs the user no minute
and leaves no half-made folder.
"""

from pathlib import Path

from luthier.config.settings import Settings
from luthier.core import parts
from luthier.core.errors import DataError, SettingsError, nearest
from luthier.data.sources import find_sources
from luthier.graders.making.spec import grader_named
from luthier.models.load import find_model, is_hub_id
from luthier.recipes.arm_settings import refuse_missing
from luthier.recipes.decode import refuse_contradictions, refuse_unusable_form

_HUB = "hub:"


def preflight(settings: Settings, *, rows_given: bool) -> None:
    """Raise a UserError for data that is not there, a file given twice, a part that no folder holds, an unusable model."""
    if settings.data.path is None and not rows_given:
        raise DataError("there is no data: give a file, folder or glob (data.path).")
    _refuse_unknown_parts(settings)
    refuse_missing(settings.compare)
    refuse_contradictions(settings.generate)
    refuse_unusable_form(settings.generate)
    _refuse_what_would_do_nothing(settings)
    _refuse_files_given_twice(settings)
    if settings.model.init is not None or Path(settings.model.name).is_dir() or not is_hub_id(settings.model.name):
        find_model(settings.model)


def _refuse_unknown_parts(settings: Settings) -> None:
    named = [
        ("compare.arms", "luthier.verdict.arms", settings.compare.arms),
        ("train.objective", "luthier.train.objectives", (settings.train.objective,)),
        ("check.skip", "luthier.data.checks", settings.check.skip),
        ("data.format", "luthier.data.formats", (settings.data.format,)),
    ]
    problems: list[str] = []
    for key, package, names in named:
        known = parts.names(package)
        for name in names:
            if name is not None and name not in known and ".py:" not in name:
                problems.append(f"{key}: there is no {name!r}.{nearest(name, known)} There are: {', '.join(known)}.")
    try:
        _ = settings.compare.grader and grader_named(settings.compare.grader)
    except SettingsError as error:
        problems.append(f"compare.grader: {error}")
    if problems:
        raise SettingsError("the settings cannot be used:\n  " + "\n  ".join(problems))


def _refuse_what_would_do_nothing(settings: Settings) -> None:
    """A setting that is skipped is an error."""
    train, usual = settings.train, Settings()
    problems = [
        ("compare.grader", "rows of train.objective text are judged by bits per byte", train.objective == "text" and settings.compare.grader),
        ("train.decay", f"only the schedule wsd decays, and train.schedule is {train.schedule}", train.schedule != "wsd" and train.decay != usual.train.decay),
        ("train.retrieved", "plain text has no questions to find passages for (train.objective)", train.retrieved and train.objective == "text"),
        ("generate.top_p", "generate.temperature is 0, so nothing is drawn", settings.generate.temperature == 0 and settings.generate.top_p != 1),
    ]  # fmt: skip
    found = [f"{key} would do nothing: {reason}. Leave it out." for key, reason, skipped in problems if skipped]
    if found:
        raise SettingsError("the settings cannot be used:\n  " + "\n  ".join(found))


def _refuse_files_given_twice(settings: Settings) -> None:
    """Every file may be given once: the same rows cannot be trained and tested."""
    given: dict[Path, str] = {}
    for flag, path in (
        ("DATA", settings.data.path),
        ("--test", settings.data.test),
        ("--validation", settings.data.validation),
    ):
        if path is None or path.startswith(_HUB):
            continue
        for source in find_sources(path):
            before = given.setdefault(source.path.resolve(), flag)
            if before != flag:
                raise DataError(
                    f"{source.path} is the same file as one given as {before}, and is given again as {flag}. "
                    f"Leave {flag} out to have rows held out from it, or give another file."
                )
