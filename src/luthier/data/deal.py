"""Deal rows to sides one after another; what a row gets depends on it and the rows before it alone.

This module knows the rules of `split` (see there) but nothing of settings, files or certificates.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from luthier.core.hashing import derived_seed
from luthier.core.types import Part
from luthier.data.cluster import Links
from luthier.data.crossing import crossing_pairs

Origin = Literal["data", "test", "validation"]
BRIDGES = "bridges-two-sides"
OVERLAPS: dict[Part, str] = {"test": "overlaps-test", "validation": "overlaps-validation"}

_RUNGS_PER_DOUBLING = 8
# In a small set hashes alone could leave a part empty or give it nearly everything. So the first new cluster is
# trained, these take the part if it has no row yet, and a part with twice its share and one row takes none.
_TEST_BY_CLUSTER = 3
_VALIDATION_BY_CLUSTER = 10


@dataclass(frozen=True, slots=True)
class RowKey:
    """What the split needs to know of a row: `question` as written, `answer_key` a hash of the answer."""

    id: str
    question: str
    answer_key: str
    group: str | None = None
    origin: Origin = "data"


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of new clusters that are held out."""

    test: float
    validation: float

    def side(self, seed: int, content: str) -> Part:
        """Return the side of a cluster from what its founder holds."""
        point = derived_seed(seed, "side", content) / (1 << 63)
        # From the two ends of the line: a share that falls gives rows to training only, never to the other part.
        if point < self.test:
            return "test"
        return "validation" if point >= 1 - self.validation else "train"


def held_share(share: float, most_rows: int, num_rows: int) -> float:
    """Return the share of clusters to hold out of `num_rows` rows.

    Where `share` would exceed `most_rows` it falls as the rows grow, on a ladder of steps of 9 % (the one nearest
    to the cap): between two steps appended rows move nothing, at a step some go from held out to training.
    """
    if not most_rows:
        return 0.0
    excess = share * num_rows / most_rows
    if excess <= 1:
        return share
    return share * 2.0 ** (-round(_RUNGS_PER_DOUBLING * np.log2(excess)) / _RUNGS_PER_DOUBLING)


class Deal:
    """The state of dealing `keys`, in the order in which they are given.

    `part[i]` is the side of row i, None once it is set aside for `rule[i]` because it touches row `touched[i]`.
    A part in `closed` is the user's own file: only its own rows may join it.
    """

    def __init__(
        self, keys: Sequence[RowKey], links: Links, shares: Shares, closed: frozenset[Part], seed: int
    ) -> None:
        self.keys = keys
        self.links = links
        self.part: list[Part | None] = [None] * len(keys)
        self.rule: list[str | None] = [None] * len(keys)
        self.touched: list[int | None] = [None] * len(keys)
        self.num_founded = 0
        self._shares = shares
        self._closed = closed
        self._seed = seed
        self._parent = list(range(len(keys)))
        self._neighbours = _neighbours(links)
        self._asked = links.asked_N.tolist()
        self._first_asking: dict[int, int] = {}
        self._first_of_group: dict[str, int] = {}
        self._sizes: Counter[Part] = Counter()

    def run(self) -> None:
        """Deal every row."""
        for row, key in enumerate(self.keys):
            met = sorted(set(self._met(row)))
            other = self._conflict(key.origin, met)
            if other is not None:
                self._set_aside(row, other)
                continue
            self._keep(row, met)

    def set_aside_crossings(self, threshold: float) -> int:
        """Set aside the later of every two questions that are alike on two sides, and return how many were.

        What banding missed (one pair in a hundred at the threshold) is caught here by exact search.
        """
        first = self._first_asking
        pairs = sorted((max(first[a], first[b]), min(first[a], first[b])) for a, b in self.crossings(threshold))
        late: dict[int, int] = {}
        for later, earlier in pairs:
            if earlier not in late:
                late.setdefault(later, earlier)
        moved = {self._asked[row]: earlier for row, earlier in late.items()}
        for row, asked in enumerate(self._asked):
            if asked in moved and self.part[row] is not None:
                self._set_aside(row, moved[asked])
        return len(moved)

    def crossings(self, threshold: float) -> Iterator[tuple[int, int]]:
        """Yield every pair of question numbers that are at least `threshold` alike on two sides, by exact search."""
        side_of_question = {asked: part for asked, part in zip(self._asked, self.part) if part is not None}
        for sets in self.links.sets:
            members = sets.members_N.tolist()
            at = {
                part: np.array(
                    [i for i, asked in enumerate(members) if side_of_question.get(asked) == part], dtype=np.int64
                )
                for part in ("train", "validation", "test")
            }
            for held_out, rest in (
                (at["test"], np.concatenate([at["train"], at["validation"]])),
                (at["validation"], at["train"]),
            ):
                left_P, right_P = crossing_pairs(sets, held_out, rest, threshold)
                yield from ((members[left], members[right]) for left, right in zip(left_P.tolist(), right_P.tolist()))

    def clusters_N(self) -> np.ndarray:
        """Return the cluster of each row, named by its first row; -1 for rows set aside."""
        roots = [-1 if part is None else self._root(row) for row, part in enumerate(self.part)]
        return np.array(roots, dtype=np.int64)

    def _met(self, row: int) -> Iterator[int]:
        """Yield kept rows, one for each tie of `row` to those before it."""
        asked = self._asked[row]
        for number in (asked, *self._neighbours[asked]):
            if number in self._first_asking:
                yield self._first_asking[number]
        group = self.keys[row].group
        if group is not None and group in self._first_of_group:
            yield self._first_of_group[group]

    def _conflict(self, origin: Origin, met: Sequence[int]) -> int | None:
        """Return a row that keeps a new one from being dealt, if there is one."""
        if origin == "test":
            return None
        for part in ("test", "validation"):
            if part in self._closed and part != origin:
                blocking = next((row for row in met if self.part[row] == part), None)
                if blocking is not None:
                    return blocking
        return next((row for row in met if self.part[row] != self.part[met[0]]), None)

    def _keep(self, row: int, met: Sequence[int]) -> None:
        part = self.part[met[0]] if met else self._founded_side(row)
        assert part is not None
        self.part[row] = part
        self._sizes[part] += 1
        roots = {self._root(other) for other in met}
        first = min(roots, default=row)
        for root in (*roots, row):
            self._parent[root] = first
        self._first_asking.setdefault(self._asked[row], row)
        group = self.keys[row].group
        if group is not None:
            self._first_of_group.setdefault(group, row)

    def _founded_side(self, row: int) -> Part:
        key = self.keys[row]
        if key.origin != "data":
            return key.origin
        self.num_founded += 1
        if self.num_founded == 1:
            return "train"
        if self.num_founded == _TEST_BY_CLUSTER and self._shares.test and not self._sizes["test"]:
            return "test"
        if self.num_founded == _VALIDATION_BY_CLUSTER and self._shares.validation and not self._sizes["validation"]:
            return "validation"
        asked = self.links.questions[self._asked[row]]
        side = self._shares.side(self._seed, f"question:{asked}" if key.group is None else f"group:{key.group}")
        return "train" if self._is_full(side, row) else side

    def _is_full(self, side: Part, num_dealt: int) -> bool:
        """Tell whether a held-out part has so much more than its share that a new cluster is trained instead."""
        share = {"train": 1.0, "validation": self._shares.validation, "test": self._shares.test}[side]
        return self._sizes[side] >= 1 + 2 * share * num_dealt

    def _set_aside(self, row: int, other: int) -> None:
        other_part = self.part[other]
        assert other_part is not None
        self.part[row] = None
        self.rule[row] = OVERLAPS[other_part] if other_part in self._closed else BRIDGES
        self.touched[row] = other

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row


def _neighbours(links: Links) -> list[list[int]]:
    neighbours: list[list[int]] = [[] for _ in range(len(links.questions))]
    for left, right in zip(links.left_P.tolist(), links.right_P.tolist()):
        neighbours[left].append(right)
        neighbours[right].append(left)
    return neighbours
