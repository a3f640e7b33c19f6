"""Leave OpenAI: fetch what its tuned models were made from, tune replacements here, and prove them against the incumbents.

Each job has a folder with its files and its run. Everything is found again by its place, so a migration that was stopped
goes on where it was: files that are there are not fetched again, a run is resumed, answers in its journal are not bought
again. A name goes into the model map only when the replacement is proven not worse than the model that it replaces.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from luthier.config.load import load
from luthier.config.settings import Settings
from luthier.core.errors import ResourceError, SettingsError, nearest
from luthier.core.rundir import RunDir, write_atomically
from luthier.core.types import JsonObject
from luthier.recipes.begun import begin
from luthier.recipes.migrate_account import Account, Tuned
from luthier.recipes.migrate_money import Purse
from luthier.recipes.migrate_report import REPORT, Replaced, judged, page
from luthier.recipes.migrate_sample import within_reach
from luthier.recipes.training_file import FORMAT
from luthier.recipes.tuning_settings import as_settings
from luthier.recipes.voice import Voice
from luthier.verdict.cost import Prices, read_prices
from luthier.verdict.rules import ENDPOINT

MAP, WHOLE = "serve.yaml", "rows-of-the-whole-test"
_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: which jobs (all where none is named), the base to tune, how many questions each incumbent may be
    asked, the margin, the environment variable with the key, other settings; the most that all answers together may cost,
    at the prices of a file."""

    jobs: tuple[str, ...]
    model: str | None
    requests: int
    margin: float | None
    key_variable: str
    assignments: tuple[str, ...] = ()
    money: float | None = None
    price: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One job and what can be done about it; `obstacle` says why nothing can, and is empty otherwise."""

    tuned: Tuned
    num_bytes: int
    obstacle: str

    def as_json(self) -> JsonObject:
        """Return it as an object."""
        return {"job": self.tuned.id, "model": self.tuned.model, "bytes": self.num_bytes, "obstacle": self.obstacle}


def look(account: Account, wish: Wish, out: Path) -> list[Step]:
    """Return what a migration would do; nothing is fetched and no model is asked."""
    prices_of(wish)  # so that what is wrong with them is said before anything is done
    there = account.tuned()
    unknown = [job for job in wish.jobs if job not in {tuned.id for tuned in there}]
    if unknown:
        raise SettingsError(
            f"{account.url} has no finished job {unknown[0]}.{nearest(unknown[0], [tuned.id for tuned in there])} "
            "Leave --job out to see all of them."
        )
    return [_step(account, tuned, out) for tuned in there if not wish.jobs or tuned.id in wish.jobs]


def migrate(account: Account, wish: Wish, out: Path, voice: Voice) -> list[Replaced]:
    """Fetch, tune and compare, job by job, and write the model map for `luthier serve` as it grows."""
    from luthier.recipes import run as road  # torch, which looking does not need

    steps, prices = look(account, wish, out), prices_of(wish)
    begin(out, {**{key: str(value) for key, value in asdict(wish).items()}, "url": account.url})
    done: list[Replaced] = []
    left_out = [(step.tuned.model, step.obstacle) for step in steps if step.obstacle]
    for model, why in left_out:
        voice.say(f"{model}: left out: {why}")
    purse = Purse(wish.money, prices.of_arm(ENDPOINT), prices.currency)
    possible = [step.tuned for step in steps if not step.obstacle]
    for number, tuned in enumerate(possible):
        run, purse = _prepared(account, tuned, wish, out, voice, purse.dealt(len(possible) - number))
        road.resume(run.path, voice)
        done.append(judged(tuned.model, run))
        models: JsonObject = {one.model: str(one.run) for one in done if one.proven}
        write_atomically(out / MAP, yaml.safe_dump({"models": models}).encode())
        write_atomically(out / REPORT, page(account.url, done, left_out, out / MAP, prices.currency).encode())
    return done


def prices_of(wish: Wish) -> Prices:
    """Return what the incumbents cost; raise SettingsError for a budget of money that nothing can be held against."""
    prices = Prices() if wish.price is None else read_prices(Path(wish.price))
    price = prices.of_arm(ENDPOINT)
    if wish.money is not None and not (price.input_per_million or price.output_per_million):
        raise SettingsError(
            "--money needs --price FILE, whose `arms: {endpoint: {input_per_million: ..., output_per_million: ...}}` says what the "
            "incumbents cost."
        )
    return prices


def settings_of(tuned: Tuned, wish: Wish, url: str, place: Path) -> Settings:
    """Return the settings of the run that replaces a model: its files, its hyperparameters, its sealed test.

    The sealed test aims at no more rows than the incumbent may be asked questions; each row is asked once, as it stands. Where
    it has more, a sample of it by cluster is asked (see `migrate_sample.py`). The incumbent's answers never train.
    """
    flags: JsonObject = {
        "seed": tuned.seed % _SEEDS, "data.path": str(place / "training.jsonl"), "data.format": FORMAT,
        "data.validation": None if tuned.validation_file is None else str(place / "validation.jsonl"),
        "model.name": wish.model, "compare.margin": wish.margin, "compare.endpoint.url": url,
        "compare.endpoint.model": tuned.model, "compare.endpoint.key_variable": wish.key_variable,
        "compare.endpoint.requests": wish.requests, "compare.choosing_rows": 0, "compare.choosing_calls": 0,
        "compare.latency_rows": 0, "compare.price": None if wish.price is None else str(Path(wish.price).absolute()),
        "split.test_rows": min(wish.requests, Settings().split.test_rows), "compare.folds": 0,
    } | as_settings(tuned.hyperparameters)  # fmt: skip
    return load((), ("compare.arms=[classical, zero_shot, tuned, endpoint]", *wish.assignments), flags)


def _step(account: Account, tuned: Tuned, out: Path) -> Step:
    place = out.absolute() / tuned.id
    if tuned.method != "supervised":
        return Step(tuned, 0, f"it was tuned by {tuned.method}, which Luthier does not do")
    num_bytes = 0
    for file_id, name in ((tuned.training_file, "training.jsonl"), (tuned.validation_file, "validation.jsonl")):
        if file_id is None:
            continue
        size = (place / name).stat().st_size if (place / name).exists() else account.size(file_id)
        if size is None:
            return Step(
                tuned,
                0,
                f"its file {file_id} is deleted there; with a copy of your own, use luthier run and its arm endpoint",
            )
        num_bytes += size
    return Step(tuned, num_bytes, "")


def _prepared(
    account: Account, tuned: Tuned, wish: Wish, out: Path, voice: Voice, purse: Purse
) -> tuple[RunDir, Purse]:
    """Fetch a job's files and split its rows, where that is still to be done; return what the budget leaves after its test."""
    from luthier.recipes import run as road  # torch, which looking does not need

    place = out.absolute() / tuned.id
    account.fetch(tuned.training_file, place / "training.jsonl")
    if tuned.validation_file is not None:
        account.fetch(tuned.validation_file, place / "validation.jsonl")
    folder, settings = RunDir(place / "run"), settings_of(tuned, wish, account.url, place)
    if not folder.done("split"):  # one that was killed before is begun anew, so that the budget is looked at
        shutil.rmtree(folder.path, ignore_errors=True)
        road.prepared(None, settings, folder.path, voice)
    within_reach(settings, folder, lambda run: min(wish.requests / _asked(run), purse.reach(run)), voice, place / WHOLE)
    _refuse_beyond_budget(tuned, wish, folder)
    return folder, purse.without(folder, tuned.model)


def _refuse_beyond_budget(tuned: Tuned, wish: Wish, run: RunDir) -> None:
    """Raise ResourceError before anything is trained or asked; rows that belong together can make the test larger than wished."""
    wanted = _asked(run)
    if wanted > wish.requests:
        raise ResourceError(
            f"the sealed test of {tuned.id} has {wanted:,} rows, because rows that are alike stay together, and {tuned.model} may "
            f"be asked {wish.requests:,} questions. Nothing was asked; give --requests {wanted} and another --out."
        )


def _asked(run: RunDir) -> int:
    return int(json.loads(run.certificate.read_text(encoding="utf-8"))["rows"]["test"])


def as_text(found: Sequence[Step | Replaced], wish: Wish, out: Path) -> str:
    """Return what would be done, or what was, line by line, and how to go on."""
    lines = [_planned(one, wish) if isinstance(one, Step) else _concluded(one) for one in found]
    if not lines:
        return "No finished job with a model is left to replace."
    if any(isinstance(one, Step) for one in found):
        return "\n".join([*lines, "Nothing was fetched, asked or tuned. Do it with --yes."])
    mapped = any(isinstance(one, Replaced) and one.proven for one in found)
    return "\n".join(
        [
            *lines, f"The report: {out / REPORT}",
            *([f"Serve them under the old names: luthier serve --config {out / MAP}"] if mapped else []),
        ]
    )  # fmt: skip


def _planned(step: Step, wish: Wish) -> str:
    if step.obstacle:
        return f"{step.tuned.model}: cannot be replaced: {step.obstacle}."
    money = (
        ""
        if wish.money is None
        else f", as far as {wish.money:g} {prices_of(wish).currency} reach for all jobs together"
    )
    return (
        f"{step.tuned.model}: fetch {step.num_bytes:,} bytes, tune {wish.model or Settings().model.name}, "
        f"and ask the incumbent at most {wish.requests:,} questions{money}."
    )


def _concluded(one: Replaced) -> str:
    low, high = one.interval
    figures = f"difference {one.value:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    then = "It answers under the old name." if one.proven else "It is not in the model map."
    return f"{one.model}: the replacement is {one.outcome} ({figures}). {then} The proof: {one.run / 'report.html'}"
