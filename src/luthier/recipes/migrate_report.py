"""What a migration has found, for the owner of the models: `report.md` in its folder, written anew after every job."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject
from luthier.recipes.migrate_sample import sampled_of
from luthier.recipes.verdict_file import read_verdict
from luthier.verdict.cost_page import money
from luthier.verdict.figures import ends, number, objects, scale_of
from luthier.verdict.rules import ENDPOINT

REPORT = "report.md"
_PROVEN = ("better", "equivalent", "not worse")
_HEAD = """# Leaving {url}

Each model that was tuned there has a replacement here, tuned from the same file with the same settings, but without the
rows of a sealed test. Both were asked these rows, each once. The incumbent had trained on them; the replacement had not,
so the comparison is hard on the replacement.

"""
_SAMPLE = """Where a model was asked so many rows of so many, the budget did not reach for the whole sealed test: a sample of it was asked, whole
clusters of rows that are alike, by the seed of the job. The other rows were trained.

"""
_COLUMNS = ("incumbent", "rows asked", "incumbent's score", "replacement's score", "difference", "the replacement is", "paid there", "answers under the old name")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Replaced:
    """How a replacement compares with its incumbent, in the words of the verdict."""

    model: str
    run: Path
    outcome: str
    value: float
    interval: tuple[float, float]

    @property
    def proven(self) -> bool:
        """Tell whether the replacement is not worse by more than the margin."""
        return self.outcome in _PROVEN

    def as_json(self) -> JsonObject:
        """Return it as an object."""
        return {
            "model": self.model, "run": str(self.run), "outcome": self.outcome, "value": self.value,
            "interval": [*self.interval], "mapped": self.proven,
        }  # fmt: skip


def judged(model: str, run: RunDir) -> Replaced:
    """Return how the finished run of a replacement compares with its incumbent."""
    verdict = read_verdict(run)
    differences = verdict["differences"]
    assert isinstance(differences, list)
    found = next(one for one in map(objects, differences) if (one["a"], one["b"]) == ("tuned", ENDPOINT))
    return Replaced(model, run.path, str(found["outcome"]), number(found, "value"), ends(found))


def page(url: str, done: Sequence[Replaced], left_out: Sequence[tuple[str, str]], config: Path, currency: str) -> str:
    """Return the report: a row for each replacement, what was left out and why, and how to go on."""
    parts = [_HEAD.format(url=url)]
    if done:
        head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}\n"
        parts.append(head + "".join(_row(one, currency) for one in done) + "\n")
        parts.append(
            "The proof of each: " + ", ".join(f"[{one.model}]({one.run / 'report.html'})" for one in done) + ".\n\n"
        )
    if any(sampled_of(RunDir(one.run)) is not None for one in done):
        parts.append(_SAMPLE)
    if left_out:
        parts.append("Left out:\n\n" + "".join(f"- {model}: {why}.\n" for model, why in left_out) + "\n")
    if any(one.proven for one in done):
        parts.append(f"Serve the replacements under the old names: `luthier serve --config {config}`\n\n")
    open_ = [one.model for one in done if not one.proven]
    if open_:
        parts.append(
            f"Not proven: {', '.join(open_)}. Their names are not in the model map. Tune a larger base with `--model`, or ask "
            "more questions with `--requests`, in another folder; who accepts the difference adds the name by hand.\n"
        )
    return "".join(parts)


def _row(one: Replaced, currency: str) -> str:
    verdict = read_verdict(RunDir(one.run))
    scale = scale_of(str(verdict["grader"]), bool(verdict.get("lower_is_better")))
    arms = objects(verdict["arms"])
    theirs, ours = objects(arms[ENDPOINT]), objects(arms["tuned"])
    rows = number(objects(verdict["data"]), "test")
    each = objects(theirs.get("cost")).get("money_per_1000")
    whole = sampled_of(RunDir(one.run))
    of = "" if whole is None else f" of {whole:,}"
    cells = [
        f"`{one.model}`", f"{rows:,.0f}{of}", scale.score(number(theirs, "score")), scale.score(number(ours, "score")),
        f"{scale.gap(one.value)} ({scale.gap_interval(one.interval)})", one.outcome,
        "not known" if each is None else f"{money(float(str(each)) * rows / 1000)} {currency}", "yes" if one.proven else "no",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |\n"
