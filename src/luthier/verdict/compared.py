"""Differences between arms as `verdict.json` holds them."""

from collections.abc import Mapping, Sequence

import numpy as np

from luthier.core.types import JsonObject
from luthier.verdict.power import rows_to_decide
from luthier.verdict.rules import TRAINED
from luthier.verdict.stats import Difference, Sample, paired_all


def pairs_of(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return every arm against every other, a trained one first."""
    names = sorted(arms, key=lambda name: name not in TRAINED)
    return [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]


def differences(scores: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], sample: Sample) -> list[JsonObject]:
    """Compare the arms of each pair on the same rows.

    Holm corrects over the pairs with a trained arm, which answer whether tuning pays, and over the others apart.
    """
    first = [pair for pair in pairs if pair[0] in TRAINED or pair[1] in TRAINED]
    rest = [pair for pair in pairs if pair not in first]
    found = {pair: one for family in (first, rest) for pair, one in zip(family, paired_all(scores, family, sample))}
    return [_entry(pair, found[pair], sample, len(first if pair in first else rest)) for pair in pairs]


def _entry(pair: tuple[str, str], found: Difference, sample: Sample, compared: int) -> JsonObject:
    entry: JsonObject = {
        "a": pair[0], "b": pair[1], "value": found.value, "interval": [found.interval.low, found.interval.high],
        "outcome": found.outcome, "p": found.p,
    }  # fmt: skip
    if found.outcome in ("undecided", "not worse"):
        num_rows, num_clusters = len(sample.clusters_R), len(np.unique(sample.clusters_R))
        rows = rows_to_decide(
            found.value, found.standard_error, num_rows, num_clusters, sample.measure.margin, compared
        )
        entry |= {"more_rows": rows and rows.total - num_rows, "aim": rows and rows.aim}
    return entry
