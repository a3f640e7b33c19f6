"""Where is the tuned model weak? Its score by label, length, cluster and rare field, worst first."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from luthier.core.types import JsonObject
from luthier.graders.json_fields import InvalidJson, parsed
from luthier.verdict.answers import AnswerRow
from luthier.verdict.choose import are_labels
from luthier.verdict.stats import Sample, interval, mean

_FEWEST_ROWS = 5
_MOST_SLICES = 40
_RARE = 0.1


def slices(rows: Sequence[AnswerRow], scores: Mapping[str, np.ndarray], arm: str, sample: Sample) -> list[JsonObject]:
    """Return the slices of at least five rows, those first where `arm` is worst; every other arm's score stands beside."""
    found = [
        _entry(by, name, np.array(places), scores, arm, sample)
        for by, name, places in _cuts(rows, sample.clusters_R)
        if _FEWEST_ROWS <= len(places) < len(rows)
    ]
    found.sort(key=lambda entry: (float(str(entry["score"])), -int(str(entry["rows"]))))
    return found[:_MOST_SLICES]


def _entry(
    by: str, name: str, places: np.ndarray, scores: Mapping[str, np.ndarray], arm: str, sample: Sample
) -> JsonObject:
    own_R = np.asarray(scores[arm], dtype=np.float64)[places]
    ends = interval(own_R, sample.clusters_R[places], sample.resamples, sample.seed, sample.measure)
    others: JsonObject = {other: mean(scores_R[places]) for other, scores_R in scores.items() if other != arm}
    return {
        "by": by, "slice": name, "rows": len(places), "score": mean(own_R), "interval": [ends.low, ends.high],
        "others": others,
    }  # fmt: skip


def _cuts(rows: Sequence[AnswerRow], clusters_R: np.ndarray) -> Iterator[tuple[str, str, list[int]]]:
    yield from _gathered("label", _labels(rows))
    yield from _gathered("length of the question", _quarters([len(row.question) for row in rows]))
    sizes = Counter(clusters_R.tolist())
    yield from _gathered("cluster", ["alone" if sizes[one] == 1 else "with others" for one in clusters_R.tolist()])
    yield from _gathered("turns", ["one" if _turns(row) == 1 else "several" for row in rows])
    yield from _rare_fields(rows)


def _gathered(by: str, names: Sequence[str]) -> Iterator[tuple[str, str, list[int]]]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    yield from ((by, name, found) for name, found in places.items())


def _labels(rows: Sequence[AnswerRow]) -> list[str]:
    wanted = [row.answer.strip() for row in rows]
    return wanted if are_labels(Counter(wanted)) else []


def _quarters(lengths: Sequence[int]) -> list[str]:
    """Name each length by its quarter; equal lengths are in one."""
    ends = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75], method="higher"))
    tops = [int(top) for top in ends]
    between = [f"{low + 1:,} to {high:,} characters" for low, high in pairwise(tops)]
    names = [f"up to {tops[0]:,} characters", *between, f"over {tops[-1]:,} characters"]
    return [names[int(np.searchsorted(ends, length, side="left"))] for length in lengths]


def _turns(row: AnswerRow) -> int:
    return sum(message.get("role") == "user" for message in row.messages)


def _rare_fields(rows: Sequence[AnswerRow]) -> Iterator[tuple[str, str, list[int]]]:
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for path in _paths(row.answer):
            places.setdefault(path, []).append(place)
    yield from (("rare field", path, found) for path, found in places.items() if len(found) <= _RARE * len(rows))


def _paths(answer: str) -> set[str]:
    """Return the keys of a JSON object and of the objects in it, dotted."""
    try:
        value = parsed(answer)
    except (InvalidJson, json.JSONDecodeError):
        return set()
    return set(_walk(value, "")) if isinstance(value, dict) else set()


def _walk(value: JsonObject, prefix: str) -> Iterator[str]:
    for key, inner in value.items():
        yield f"{prefix}{key}"
        if isinstance(inner, dict):
            yield from _walk(inner, f"{prefix}{key}.")
