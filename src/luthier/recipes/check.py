"""Look at data before training on it: read, split, and let every check see each row once.

Nothing is trained, and nothing is left behind but the findings in the cache. With `fix` the rows are
written anew, see `recipes/mend.py`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from luthier.config.settings import Settings
from luthier.core import parts
from luthier.core.errors import DataError
from luthier.core.hashing import file_hash
from luthier.core.rundir import RunDir
from luthier.core.types import Content, Finding, JsonValue, Rejected, Row
from luthier.data.checking import Charting, Check, Context, Repairing, place_of
from luthier.data.cluster_map import HIDDEN
from luthier.data.examine import CHECKS, check_names, make_checks
from luthier.data.excerpts import content_text, excerpt
from luthier.data.findings_cache import FindingsCache, Found, Summary
from luthier.data.health import About, Diagnosis, Excerpt, worst_first
from luthier.data.lookup import Lookup
from luthier.data.sources import find_sources
from luthier.recipes import prepare
from luthier.recipes.desk import Desk
from luthier.recipes.prepare import (
    ORIGINS,
    Ruler,
    Source,
    checking_context,
    examined,
    read_stage,
    rejected_rows,
    split_stage,
)
from luthier.recipes.voice import Voice
from luthier.verdict.check_page import write_check_page

_HUB = "hub:"
_STARTER = "starter"
_EXAMPLES = 3
_LENGTHS = 40


@dataclass(frozen=True)
class Look:
    """One look at data by some checks, while its rows still lie at hand."""

    desk: Desk
    context: Context
    checks: Mapping[str, Check]
    found: Mapping[str, Found]
    summary: Summary


def check(source: Source | None, settings: Settings, voice: Voice, *, use_cache: bool = True) -> Diagnosis:
    """Return what every check finds; what is known already is not looked for again.

    `source` holds rows from Python or overrides `data.path`. Raises DataError where there is no usable row at all.
    """
    settings = _with_path(source, settings)
    names = check_names(settings.check.skip)
    cache = _cache(source, settings) if use_cache else None
    summary = None if cache is None else cache.summary()
    known = {} if cache is None else {name: found for name in names if (found := cache.found(name)) is not None}
    missing = [name for name in names if name not in known]
    if missing or summary is None:
        with looking(source, settings, voice, missing) as look:
            summary, known = look.summary, {**known, **look.found}
        if cache is not None:
            cache.keep_summary(summary)
            for name in missing:
                cache.keep(name, known[name])
    else:
        voice.say("nothing has changed since these data were last checked; --no-cache looks again")
    return diagnosis(summary, {name: known[name] for name in names}, settings)


@contextmanager
def looking(source: Source | None, settings: Settings, voice: Voice, names: Iterable[str]) -> Iterator[Look]:
    """Read and split the rows in a folder for the time being and let the named checks look at them."""
    with TemporaryDirectory(prefix="luthier-check-") as folder:
        run = RunDir(Path(folder))
        run.data.mkdir()
        desk = Desk(run, _tolerant(_with_path(source, settings)), voice)
        read_stage(desk, source)
        split_stage(desk, refuse_hollow=False)
        lookup = Lookup([run.read_rows(origin) for origin in ORIGINS])
        context = checking_context(desk, lookup, _ruler(desk))
        checks = make_checks(names, context)
        lengths: Counter[int] = Counter()
        found = examined(checks, _measured(lookup, lengths), len(lookup), voice)
        rejected = rejected_rows(run)
        summary = Summary(len(lookup) + len(rejected), len(rejected), _histogram(lengths))
        words = _Words(context, rejected, found)
        yield Look(desk, context, checks, {name: words.of(checks[name], found[name]) for name in checks}, summary)
        lookup.close()


def diagnosis(summary: Summary, found: Mapping[str, Found], settings: Settings) -> Diagnosis:
    """Put together what the checks found."""
    places = {id: place for of_check in found.values() for id, place in of_check.places.items()}
    about = {name: _about(name) for name in found}
    keepers = [name for name, of_check in about.items() if of_check.dimension == "private"]
    secret = {id for name in keepers for finding in found[name].findings for id in finding.rows}
    drawn = next((of_check.cluster_map for of_check in found.values() if of_check.cluster_map is not None), None)
    excerpts = {(name, id): words for name, of_check in found.items() for id, words in of_check.excerpts.items()}
    return Diagnosis(
        summary.num_rows, summary.num_rejected,
        tuple(worst_first(finding for of_check in found.values() for finding in of_check.findings)),
        about, places, _without_secrets(excerpts, secret, about), summary.lengths,
        None if drawn is None else drawn.without(secret), settings.check.limits,
    )  # fmt: skip


def _without_secrets(
    excerpts: Mapping[tuple[str, str], Excerpt], secret: set[str], checks: Mapping[str, About]
) -> dict[tuple[str, str], Excerpt]:
    """Hide the words of rows that hold private data, whoever quotes them: a report is passed on."""
    return {
        (name, id): Excerpt(HIDDEN) if id in secret and checks[name].dimension != "private" else words
        for (name, id), words in excerpts.items()
    }


def write_report(path: Path, found: Diagnosis, settings: Settings) -> None:
    """Write what was found as a page to read."""
    write_check_page(path, found, settings.data.path or "rows from Python")


def mended(check: Check, finding: Finding, row: Row) -> Content | None:
    """Return what a row would be after the finding's repair; None where no repair changes its content."""
    repair = next((repair for repair in finding.repairs if repair.row == row.id and repair.action == "fix"), None)
    if repair is None:
        return None
    content = repair.content
    if content is None and isinstance(check, Repairing):
        content = check.repair(row.content)
    return None if content == row.content else content


class _Words:
    """Finds the places of rows by their ids, and words for those that serve as examples."""

    def __init__(self, context: Context, rejected: Iterable[Rejected], found: Mapping[str, list[Finding]]) -> None:
        named = {id for findings in found.values() for finding in findings for id in finding.rows}
        self._context = context
        self._rejected = {row.id: row for row in rejected if row.id in named}
        self._places = {id: place_of(row) for id, row in self._rejected.items()}
        self._positions: dict[str, int] = {}
        for position, place in enumerate(context.places or ()):
            if place.id in named:
                self._positions[place.id] = position
                self._places[place.id] = place

    def of(self, check: Check, findings: list[Finding]) -> Found:
        """Return what a check found, with the places of all rows that it names."""
        places = {id: self._places[id] for finding in findings for id in finding.rows}
        drawn = check.cluster_map() if isinstance(check, Charting) else None
        excerpts: dict[str, Excerpt] = {}
        for id, words in self._excerpts(check, findings):
            if (
                id not in excerpts or excerpts[id].after is None
            ):  # of several findings that name a row one may know a repair
                excerpts[id] = words
        return Found(tuple(findings), places, excerpts, drawn)

    def _excerpts(self, check: Check, findings: list[Finding]) -> Iterator[tuple[str, Excerpt]]:
        shown: Counter[tuple[str, str]] = Counter()
        for finding in worst_first(findings):
            shown[finding.kind, finding.severity] += 1
            if shown[finding.kind, finding.severity] > _EXAMPLES:
                continue
            for id in finding.rows[:_EXAMPLES]:
                if id in self._positions:
                    row = self._context.row_at(self._positions[id])
                    words = excerpt(row, mended(check, finding, row))
                    yield id, Excerpt(words.after or HIDDEN) if check.dimension == "private" else words
                elif id in self._rejected:
                    yield id, excerpt(self._rejected[id])


def _with_path(source: Source | None, settings: Settings) -> Settings:
    if source is None and settings.data.path is None:
        raise DataError("there is no data: give a file, folder or glob (data.path).")
    if source is None:
        return settings
    path = str(source) if isinstance(source, str | Path) else None
    return settings.model_copy(update={"data": settings.data.model_copy(update={"path": path})})


def _tolerant(settings: Settings) -> Settings:
    """Let any number of broken rows through: the point is to say that they are broken."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"max_bad_share": 1.0})})


def _names_a_model(settings: Settings) -> bool:
    return bool({"name", "init"} & settings.model.model_fields_set)


def _ruler(desk: Desk) -> Ruler | None:
    """Return what measures rows in tokens, where a model is named: its libraries take seconds to load."""
    if not _names_a_model(desk.settings):
        return None
    from luthier.recipes.measure import ModelRuler

    return ModelRuler(desk)


def _cache(source: Source | None, settings: Settings) -> FindingsCache | None:
    """Return the cache of these data; None where they are not known by bytes that lie still.

    Rows from Python are not kept, for nobody expects that what was in memory leaves quotations on the disk, and a data
    set of a hub can change behind its name.
    """
    paths = (settings.data.path, settings.data.test, settings.data.validation, *settings.check.benchmarks)
    if not isinstance(source, str | Path | None) or any(path is not None and path.startswith(_HUB) for path in paths):
        return None
    files: list[JsonValue] = [
        None if path is None else [[file.name, file.sha256] for file in find_sources(path)] for path in paths
    ]
    chosen = settings.model_dump(mode="json", exclude={"check": {"limits", "skip"}, "compare": True, "export": True})
    words = [file_hash(Path(file)) for file in (__file__, prepare.__file__)]
    return FindingsCache([files, chosen, _tokenizer_files(settings) if _names_a_model(settings) else None, *words])


def _tokenizer_files(settings: Settings) -> JsonValue:
    """Return hashes of what measures rows in a model's folder; a model of a hub is known by its name and revision."""
    name = settings.model.init.tokenizer if settings.model.init else settings.model.name
    folder = Path(str(resources.files("luthier.starter") / "model")) if name == _STARTER else Path(name)
    return [file_hash(file) for file in sorted(folder.glob("*")) if file.suffix in (".json", ".jinja")]


def _about(name: str) -> About:
    check = parts.load(CHECKS, name, "Check")
    return About(check.dimension, check.effect, check.blind)


def _measured(rows: Iterable[Row], lengths: Counter[int]) -> Iterator[Row]:
    for row in rows:
        lengths[len(content_text(row.content)).bit_length()] += 1
        yield row


def _histogram(lengths: Counter[int]) -> tuple[int, ...]:
    return tuple(islice((lengths[bits] for bits in range(_LENGTHS)), max(lengths, default=-1) + 1))
