"""Which base model to tune: the smallest that a short training makes as good as the best, by the validation rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from luthier.core.types import JsonObject
from luthier.verdict.figures import duration, ends, number, objects, scale_of
from luthier.verdict.power import rows_to_decide
from luthier.verdict.stats import Difference, Sample, paired_all

_AS_GOOD = ("better", "equivalent", "not worse")


@dataclass(frozen=True)
class Recommendation:
    """The model to tune, how each other compares with the best one, and those smaller ones that may do as well."""

    model: str
    best: str
    differences: Mapping[str, Difference]
    undecided: tuple[str, ...]
    more_rows: int | None

    def as_entries(self) -> JsonObject:
        """Return what `bases.json` says."""
        return {
            "recommended": self.model, "best": self.best, "undecided": [*self.undecided], "more_rows": self.more_rows,
            "differences": [
                {
                    "a": name, "b": self.best, "value": one.value, "interval": [one.interval.low, one.interval.high],
                    "outcome": one.outcome, "p": one.p,
                }
                for name, one in self.differences.items()
            ],
        }  # fmt: skip


def recommended(scores: Mapping[str, np.ndarray], sizes: Mapping[str, int], sample: Sample) -> Recommendation:
    """Return the smallest model that is not worse than the best, by the margin of the sample.

    A smaller one that these rows cannot tell from the best is named as undecided, with the rows that would decide.
    """
    best = max(scores, key=lambda name: (float(np.mean(scores[name])), -sizes[name]))
    others = [name for name in scores if name != best]
    found = dict(zip(others, paired_all(scores, [(name, best) for name in others], sample), strict=True))
    by_size = sorted(scores, key=lambda name: (sizes[name], name != best))
    chosen = next(name for name in by_size if name == best or found[name].outcome in _AS_GOOD)
    open_ones = tuple(name for name in by_size if sizes[name] < sizes[chosen] and found[name].outcome == "undecided")
    return Recommendation(chosen, best, found, open_ones, _more_rows([found[name] for name in open_ones], sample))


def bases_table(found: JsonObject) -> Table:
    """Return the models with what they reach and cost, for a person."""
    scale = scale_of(str(found["grader"]), lower_is_better=False)
    table = Table(caption=Text(f"{found['because']}\n{found['next']}"), caption_justify="left", caption_style="bold")
    table.add_column("model", no_wrap=True)
    for heading in (
        scale.name,
        "95 % interval",
        "less the best",
        "weights",
        "training",
        "tokens in",
        "tokens out",
        "requests/s",
    ):
        table.add_column(heading, justify="right")
    table.add_column("licence")
    differences = found["differences"]
    assert isinstance(differences, list)
    gaps = {str(objects(one)["a"]): scale.gap(number(one, "value")) for one in differences}
    for name, entry in objects(found["models"]).items():
        cost = objects(objects(entry)["cost"])
        table.add_row(
            name, scale.score(number(entry, "score")), scale.interval(ends(entry)), gaps.get(name, ""),
            f"{number(entry, 'weights') / 1e6:,.1f} M", duration(number(entry, "training_seconds")),
            f"{number(cost, 'tokens_in'):,.0f}", f"{number(cost, 'tokens_out'):,.0f}", f"{number(cost, 'requests_per_second'):,.1f}",
            str(objects(entry)["license"] or "not stated"), style="bold" if name == found["recommended"] else None,
        )  # fmt: skip
    return table


def because(found: Recommendation, scores: Mapping[str, np.ndarray], grader: str, rows: tuple[int, int]) -> str:
    """Say in words what was found; `rows` are the rows trained on and the validation rows."""
    scale = scale_of(grader, lower_is_better=False)
    reached = f"{found.best} reaches {scale.name} {scale.score(float(np.mean(scores[found.best])))}"
    how = f"After a short training on {rows[0]:,} rows, on {rows[1]:,} validation rows: {reached}"
    if found.model != found.best:
        gap = scale.gap(found.differences[found.model].value)
        how += f"; {found.model} is smaller and {found.differences[found.model].outcome} ({gap})"
    if found.undecided:
        more = "" if found.more_rows is None else f"; about {found.more_rows:,} more validation rows would tell"
        how += f". Whether {' or '.join(found.undecided)}, which is smaller, does as well is undecided{more}"
    return f"{how}. The test part was not opened."


def _more_rows(undecided: Sequence[Difference], sample: Sample) -> int | None:
    num_rows, num_clusters = len(sample.clusters_R), len(np.unique(sample.clusters_R))
    needed = [
        rows_to_decide(one.value, one.standard_error, num_rows, num_clusters, sample.measure.margin)
        for one in undecided
    ]
    totals = [rows.total - num_rows for rows in needed if rows is not None]
    return max(totals) if totals else None
