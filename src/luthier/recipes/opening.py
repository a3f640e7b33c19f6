"""Open the sealed test: declare what will be tested, enter the look, and make sure that it is still a test.

The seal is counted anew from the files and from what the checkpoint remembers, whatever the stages before have said.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.hashing import bytes_hash, json_hash, text_hash
from luthier.core.journal import entries
from luthier.core.looks import look
from luthier.core.types import PARTS, JsonObject, JsonValue, Row
from luthier.data.ledger import read_ledger
from luthier.data.normal import content_key, normalized, places, question, text_key
from luthier.recipes.general import stored
from luthier.recipes.job import Job
from luthier.verdict.rules import TRAINED

# What may change without another look: it judges the same answers, counts their cost, or asks other rows.
_JUDGES_ONLY = {"margin", "resamples", "price", "held_rows"}


@dataclass(frozen=True)
class Opening:
    """How the test part was opened.

    `looks` counts the looks at these rows over all runs beside this one, `test` is the hash of their content,
    `declared` what the first look of this run said it would test, `unsealed` why the part is no test, or empty,
    `since` what is tested otherwise now.
    """

    test: str
    looks: int
    declared: JsonObject
    unsealed: str
    since: tuple[str, ...] = ()

    def as_entries(self) -> JsonObject:
        """Return what `verdict.json` says."""
        return {"looks": {"test": self.test, "count": self.looks}, "declared": self.declared}


def open_test(job: Job, grader: str, cross_fitted: Sequence[Row] | None = None) -> Opening:
    """Declare the tests of this run in its events, enter the look, and count the seal anew.

    `cross_fitted` are the rows of all folds where there is no test part; whether they are sealed tells each fold by itself.
    """
    declaration = _declaration(job, grader)
    if declaration != _last_declared(job):
        job.run.event("test_declared", **declaration)
    first = next(entry for entry in entries(job.run.events) if entry["event"] == "test_declared")
    declared = {key: value for key, value in first.items() if key not in ("time", "event")}
    rows = job.rows("test") if cross_fitted is None else cross_fitted
    test, looks = enter_look(job, rows)
    broken = unsealed(job, rows) if cross_fitted is None else ""
    return Opening(test, looks, declared, broken, _since(declared, declaration))


def enter_look(job: Job, rows: Sequence[Row]) -> tuple[str, int]:
    """Enter in the ledger of looks that this run opens these rows; return their hash and the number of looks by now."""
    test = text_hash("".join(sorted(content_key(row) for row in rows)))[:16]
    return test, look(job.run.path.resolve().parent, test, _looker(job), {"run": job.run.path.name})


def unsealed(job: Job, test: Sequence[Row]) -> str:
    """Say why the test part is no test: rows that training or choosing saw, or parts that are not those of the run."""
    for part in ("train", "validation", "replay"):
        rows = stored(job, part) if part == "replay" else job.rows(part)
        known: set[str | bytes] = {key for row in rows for key in _keys(row)}
        seen = [row for row in test if not known.isdisjoint(_keys(row))]
        if seen:
            return f"{len(seen):,} of the {len(test):,} test rows are among the {part} rows ({places(seen)})."
    return _moved(job) or _trained_on_others(job)


def _keys(row: Row) -> tuple[str | bytes, ...]:
    return row.id, content_key(row), text_key(normalized(question(row)))


def _moved(job: Job) -> str:
    """Say which rows lie in another part than the ledger says."""
    table = read_ledger(job.run.ledger).select(["id", "part"]).to_pydict()
    part_of = dict(zip(table["id"], table["part"], strict=True))
    for part in PARTS:
        wrong = [row for row in job.rows(part) if part_of.get(row.id) != part]
        if wrong:
            return f"{len(wrong):,} rows of the {part} part are not there by the ledger ({places(wrong)})."
    return ""


def _trained_on_others(job: Job) -> str:
    """Say whether the weights were trained on other rows than the training part holds now."""
    step = job.training["best_step"]
    state = job.run.checkpoints / f"{step:06d}" / "state.json"
    remembered = json.loads(state.read_text(encoding="utf-8"))["fingerprint"]["data"]
    if remembered != bytes_hash(job.training_store.digest()):
        return "the weights were trained on other rows than the training part holds now."
    return ""


def _declaration(job: Job, grader: str) -> JsonObject:
    """Return the one primary test of the grader: the trained arm against every other, and how it is judged."""
    settings = job.settings.compare
    first = next((name for name in settings.arms if name in TRAINED), None)
    against: list[JsonValue] = [name for name in settings.arms if name != first]
    return {
        "grader": grader, "margin": settings.margin, "primary": first, "against": against,
        "method": "paired over clusters, sign-flip test at 5 % corrected after Holm, 95 % BCa interval"
        + (f", both wide enough for the luck of {settings.folds} fold models" if settings.folds else ""),
    }  # fmt: skip


def _since(declared: JsonObject, now: JsonObject) -> tuple[str, ...]:
    return tuple(
        f"The {key} was declared as {declared[key]} before the test part was opened, and is {now[key]} now."
        for key in ("grader", "margin", "primary")
        if declared[key] != now[key]
    )


def _last_declared(job: Job) -> JsonObject | None:
    found = [entry for entry in entries(job.run.events) if entry["event"] == "test_declared"]
    return {key: value for key, value in found[-1].items() if key not in ("time", "event")} if found else None


def _looker(job: Job) -> str:
    """Return what tells one look from another: the run, by its name and beginning, and what it asks the test."""
    begun = next((str(entry["time"]) for entry in entries(job.run.events)), "")
    asks = job.settings.compare.model_dump(mode="json", exclude=_JUDGES_ONLY)
    return json_hash([job.run.path.name, begun, asks])[:16]
