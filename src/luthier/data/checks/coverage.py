"""What the rows cover: regions of questions, thin and crowded ones, labels, and what the test part never asks.

Counts of labels and of edge cases are over all rows; regions, redundant rows and the learning curve come
from an even sample of some thousand training rows. The curve says how much more rows would help, where
answers are labels; elsewhere a quick model cannot tell, and the finding says that.

What it cannot see: what users will ask that no row asks, and meaning beyond the words.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from luthier.core.types import Finding, Row
from luthier.data.answers_kind import Labels, spelling_key
from luthier.data.checking import Context, Dimension
from luthier.data.cluster_map import ClusterMap, Spot
from luthier.data.edge_cases import EDGE_CASES, edge_cases
from luthier.data.gathered import covered, shown
from luthier.data.learning_curve import Curve, learning_curve
from luthier.data.normal import answer, normalized, question
from luthier.data.regions import LONGEST_TEXT, Regions, find_regions
from luthier.data.sampled import Sampled

_SAMPLE = 8_000
_FEWEST_SAMPLED = 100
_FEW_ROWS = 10
_THIN = 0.15
_REDUNDANT = 0.9
_DOMINANT = 0.8
# So many test rows of a kind should be there by the training rows, and none is: not by chance (e^-7 < 0.1 %).
_SURELY_EXPECTED = 7
_MOST_NAMED = 5

Side = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class _Sample:
    position: int
    text: str
    said: str


class Check:
    """Map what is asked, and say where rows are few, many, or missing from the test part."""

    dimension: ClassVar[Dimension] = "varied"
    effect: ClassVar[str] = (
        "a model is good where it has seen many rows, and the test says nothing of what it never asks"
    )
    blind: ClassVar[str] = "what users will ask that no row asks"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._map: ClusterMap | None = None
        self._labels = Labels()
        self._is_test = array("b")
        self._edges: dict[Side, Counter[str]] = {"train": Counter(), "test": Counter()}
        self._example: dict[tuple[Side, str], int] = {}
        self._samples: dict[Side, Sampled[_Sample]] = {"train": Sampled(_SAMPLE), "test": Sampled(_SAMPLE)}

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Count the row's label and edge cases, and keep its words if the sample takes it."""
        side = self._side(position)
        self._is_test.append(side == "test")
        said, asked = answer(row), question(row)
        self._labels.add(position, said)
        for name in edge_cases(row, asked):
            self._edges[side][name] += 1
            self._example.setdefault((side, name), position)
        if self._samples[side].wants(row.id):
            self._samples[side].add(row.id, _Sample(position, normalized(covered(asked[:LONGEST_TEXT])), said))
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield what the labels, the edge cases, the regions and the learning curve show."""
        if self._labels.are_labels:
            yield from self._label_findings()
        yield from self._edge_findings()
        train = self._samples["train"].values
        if len(train) < _FEWEST_SAMPLED:
            return
        regions = find_regions([one.text for one in train], self._context.seed)
        if regions is not None:
            yield from self._region_findings(regions, train)
            self._map = self._drawn(regions, train)
        yield self._more_rows(train)

    def cluster_map(self) -> ClusterMap | None:
        """Return the regions as a map, once all rows are seen; None where they are too few or have no words in common."""
        return self._map

    def _drawn(self, regions: Regions, train: Sequence[_Sample]) -> ClusterMap:
        nearest_R = regions.nearest_R([one.text for one in train]).tolist()
        places = zip(nearest_R, regions.plane().round(4).tolist(), strict=True)
        spots = [
            self._spot(regions.names[region], x, y, train[nearest], np.flatnonzero(regions.region_N == region), train)
            for region, (nearest, (x, y)) in enumerate(places)
            if nearest >= 0
        ]
        return ClusterMap(tuple(spots), self._samples["train"].share)

    def _spot(
        self, words: str, x: float, y: float, nearest: _Sample, members: np.ndarray, train: Sequence[_Sample]
    ) -> Spot:
        ids = tuple(self._context.place_at(train[place].position).id for place in members.tolist())
        row = self._context.row_at(nearest.position)
        return Spot(words, x, y, ids, row.id, shown(question(row)))

    def _side(self, position: int) -> Side:
        assignment = self._context.assignment
        if assignment is None:
            return "test" if self._context.origin_at(position) == "test" else "train"
        return "test" if assignment.part[position] == "test" else "train"

    @property
    def _num_test(self) -> int:
        return sum(self._is_test)

    def _label_findings(self) -> Iterator[Finding]:
        rows: dict[Side, defaultdict[str, list[int]]] = {"train": defaultdict(list), "test": defaultdict(list)}
        for position, code in zip(self._labels.positions, self._labels.codes):
            key = spelling_key(self._labels.spellings[code])
            rows["test" if self._is_test[position] else "train"][key].append(position)
        written = {spelling_key(text): text for text in reversed(self._labels.spellings)}
        total = sum(map(len, rows["train"].values()))
        few = sorted(
            (len(at), key)
            for key, at in rows["train"].items()
            if len(at) < min(_FEW_ROWS, 0.2 * total / len(rows["train"]))
        )
        if few:
            named = [f"{shown(written[key])} ({count})" for count, key in few]
            positions = [position for _, key in few for position in rows["train"][key]]
            yield self._finding(
                "rare-label", "warning", 0.8, positions,
                f"{_counted(len(few), 'label has', 'labels have')} fewer than {_FEW_ROWS} training rows, where a label has "
                f"{total // len(rows['train']):,} on average: {_listed(named)}.",
                "Add rows of these labels, merge them with a like one, or leave them out.",
            )  # fmt: skip
        key, most = max(rows["train"].items(), key=lambda item: len(item[1]), default=("", []))
        if len(rows["train"]) > 1 and len(most) > _DOMINANT * total:
            yield self._finding(
                "dominant-label", "warning", 0.9, (),
                f"{len(most) / total:.0%} of the training rows say {shown(written[key])}: who always says it is right as often.",
                "Judge by F1 instead of accuracy, and add rows of the other labels.",
            )  # fmt: skip
        yield from self._one_sided(
            "label",
            {written[key]: len(at) for key, at in rows["train"].items()},
            {written[key]: len(at) for key, at in rows["test"].items()},
        )

    def _edge_findings(self) -> Iterator[Finding]:
        counts = [
            {name: self._edges[side][name] for name in EDGE_CASES if self._edges[side][name]}
            for side in ("train", "test")
        ]
        yield from self._one_sided("question", *counts)

    def _one_sided(self, what: str, train: dict[str, int], test: dict[str, int]) -> Iterator[Finding]:
        """Yield the kinds of `what` that one part has and the other does not, where chance does not explain it."""
        num_test, num_train = self._num_test, len(self._is_test) - self._num_test
        if not num_test or not num_train:
            return
        ratio = num_test / num_train
        untested = [name for name, count in train.items() if count * ratio >= _SURELY_EXPECTED and name not in test]
        if untested:
            named = [f"{_named(what, name)} ({train[name]:,} training rows)" for name in untested]
            yield self._finding(
                f"untested-{what}", "warning", 0.9, (), f"no test row has what many training rows have: {_listed(named)}.",
                "Add such rows to the test file; as it is, the verdict says nothing of them.",
            )  # fmt: skip
        unseen = [name for name, count in test.items() if count / ratio >= _SURELY_EXPECTED and name not in train]
        if unseen:
            named = [f"{_named(what, name)} ({test[name]:,} test rows)" for name in unseen]
            yield self._finding(
                f"untrained-{what}", "warning", 0.9, (), f"no training row has what test rows have: {_listed(named)}.",
                "Add such rows to training, or the test asks for what nothing taught.",
            )  # fmt: skip

    def _region_findings(self, regions: Regions, train: Sequence[_Sample]) -> Iterator[Finding]:
        share = self._samples["train"].share
        sampled = "" if share == 1 else f" of {len(train):,} sampled rows"
        ranked = np.argsort(regions.sizes, kind="stable")[::-1].tolist()
        named = [
            f"{regions.names[region]!r} {regions.sizes[region] / len(train):.0%}" for region in ranked[:_MOST_NAMED]
        ]
        yield self._finding(
            "regions", "info", 0.7, (), f"the questions{sampled} fall into {len(ranked)} regions; the largest are {', '.join(named)}.",
            "Nothing; look whether these are what will be asked, in about these shares.",
        )  # fmt: skip
        thin = [region for region in reversed(ranked) if 0 < regions.sizes[region] <= _THIN * len(train) / len(ranked)]
        if thin:
            members = np.flatnonzero(np.isin(regions.region_N, thin)).tolist()
            named = [f"{regions.names[region]!r} ({regions.sizes[region]})" for region in thin[:_MOST_NAMED]]
            yield self._finding(
                "thin-region", "info", 0.5, [train[place].position for place in members],
                f"{_counted(len(thin), 'region has', 'regions have')} few rows{sampled}: {_listed(named, len(thin))}.",
                "Add rows there if users ask such things; else these rows are strays to look at.",
            )  # fmt: skip
        redundant = np.flatnonzero(regions.redundant_N([one.text for one in train], _REDUNDANT)).tolist()
        if redundant:
            yield self._finding(
                "redundant", "info", 0.6, [train[place].position for place in redundant],
                f"{len(redundant) / len(train):.0%}{sampled or ' of the rows'} use nearly the same words as another row.",
                "Fewer of them would train about as well; new rows should ask something else.",
            )  # fmt: skip
        yield from self._untested_regions(regions, train)

    def _untested_regions(self, regions: Regions, train: Sequence[_Sample]) -> Iterator[Finding]:
        test = self._samples["test"].values
        if not test:
            return
        tested = Counter(regions.of([one.text for one in test]).tolist())
        expected = {region: size / len(train) * len(test) for region, size in enumerate(regions.sizes)}
        missing = [region for region, count in expected.items() if count >= _SURELY_EXPECTED and not tested[region]]
        if missing:
            named = [f"{regions.names[region]!r} ({regions.sizes[region]:,} training rows)" for region in missing]
            yield self._finding(
                "untested-region", "warning", 0.7, (), f"the test part asks nothing from {_counted(len(missing), 'region', 'regions')} of "
                f"the training rows: {_listed(named)}.",
                "Add test rows there; as it is, the verdict says nothing of them.",
            )  # fmt: skip

    def _more_rows(self, train: Sequence[_Sample]) -> Finding:
        curve = None
        if self._labels.are_labels:
            assignment = self._context.assignment
            clusters = [one.position if assignment is None else int(assignment.cluster[one.position]) for one in train]
            labels = [spelling_key(one.said) for one in train]
            curve = learning_curve([one.text for one in train], labels, clusters, self._context.seed)
        why = "the answers are no labels" if not self._labels.are_labels else "the rows are too few"
        return self._finding(
            "more-rows", "info", 0.3 if curve is None else 0.6, (),
            f"whether more rows would help a quick model cannot tell, as {why}." if curve is None else _told(curve),
            "Train on half of the rows and on all of them, and compare." if curve is None else _advice(curve),
        )  # fmt: skip

    def _finding(
        self,
        kind: str,
        severity: Literal["info", "warning"],
        confidence: float,
        positions: Sequence[int],
        detail: str,
        fix: str,
    ) -> Finding:
        rows = tuple(self._context.place_at(position).id for position in positions)
        return Finding("coverage", kind, severity, confidence, rows, detail, fix)


def _told(curve: Curve) -> str:
    points = ", ".join(f"{right:.1%} with {rows:,}" for rows, right in zip(curve.rows, curve.right))
    return (
        f"a quick linear model is right on {points} rows; each doubling left {curve.doubling:.0%} of its errors, "
        f"so twice the rows would give about {curve.after_doubling:.1%}."
    )


def _advice(curve: Curve) -> str:
    gained = curve.after_doubling - curve.right[-1]
    if gained < 0.01:
        return "More rows of this kind would add little; rows of thin regions, or better labels, may."
    return f"Twice the rows would gain about {100 * gained:.0f} points, if the new ones are like the old."


def _named(what: str, name: str) -> str:
    return shown(name) if what == "label" else f"questions {name}"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _listed(named: Sequence[str], count: int | None = None) -> str:
    more = (len(named) if count is None else count) - min(len(named), _MOST_NAMED)
    return ", ".join(named[:_MOST_NAMED]) + (f" and {more:,} more" if more else "")
