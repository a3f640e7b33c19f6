"""Rows whose questions differ in a few words only, in clusters.

The split has found them already: rows that lie alone in their cluster are not looked at again. The
others are compared pair by pair, by the true Jaccard similarity of their shingles, since a cluster
also holds what only shares a group. Equal questions are for `duplicates` and `contradictions`, and
rows that resemble one of the test file are for `leaks`.

What it cannot see: the same question in other words, and one pair in a hundred whose likeness is
just at the threshold.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from luthier.core.types import Finding, Repair, Row
from luthier.data.checking import Context, Dimension
from luthier.data.cluster import Links, link
from luthier.data.deal import OVERLAPS
from luthier.data.gathered import covered
from luthier.data.normal import answer, normalized, question, text_key
from luthier.data.shingles import FORM_SAMPLE, find_form

_THRESHOLD = 0.8
# Real sets hold 3 to 5 % of near-duplicates and train well; more than this is worth a decision.
_MANY = 0.05
_CROWD_SHARE = 0.01
_CROWD_ROWS = 20
_MOST_NAMED = 4
_MOST_WORDS = 6


class Check:
    """Find clusters of nearly the same question."""

    dimension: ClassVar[Dimension] = "unique"
    effect: ClassVar[str] = (
        "what is asked in many nearly equal rows weighs more than it should, and is learned by heart"
    )
    blind: ClassVar[str] = "the same question in other words"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._together = _together(context)
        self._head: dict[str, None] = {}
        self._questions: dict[str, int] = {}
        self._asked = array("q")
        self._positions = array("q")
        self._answers: list[bytes] = []

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Keep the question of a row that is not alone in its cluster."""
        alone = self._together is not None and not self._together[position]
        if alone and len(self._head) == FORM_SAMPLE:
            return ()
        text = normalized(question(row))
        if len(self._head) < FORM_SAMPLE:
            self._head[text] = None
        if not alone:
            self._asked.append(self._questions.setdefault(text, len(self._questions)))
            self._positions.append(position)
            self._answers.append(text_key(normalized(answer(row))))
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield one finding for each cluster, in the order of their first rows."""
        threshold = self._threshold()
        if threshold >= 1 or len(self._questions) < 2:
            return
        links = link(list(self._questions), threshold, form=find_form(list(self._head)))
        clusters = self._clusters(links)
        redundant = sum(len({self._asked[kept] for kept in rows}) - 1 for rows in clusters.values())
        many = redundant > _MANY * self._context.num_rows
        likeness = _likeness(links)
        for number, rows in clusters.items():
            yield self._finding(rows, likeness[number], many)

    def _threshold(self) -> float:
        assignment = self._context.assignment
        return _THRESHOLD if assignment is None else float(str(assignment.certificate["near_duplicate"]))

    def _clusters(self, links: Links) -> dict[int, list[int]]:
        """Return the rows, as places in what was kept, of each cluster that has two questions or more."""
        cluster = _components(links)
        clusters: defaultdict[int, list[int]] = defaultdict(list)
        crowded = np.bincount(cluster) > 1
        for kept, asked in enumerate(self._asked):
            number = int(cluster[links.asked_N[asked]])
            if crowded[number]:
                clusters[number].append(kept)
        return clusters

    def _finding(self, rows: list[int], likeness: tuple[float, float], many: bool) -> Finding:
        places = [self._context.place_at(self._positions[kept]) for kept in rows]
        same_answer = len({self._answers[kept] for kept in rows}) == 1
        crowd = len(rows) >= max(_CROWD_ROWS, _CROWD_SHARE * self._context.num_rows)
        first, other = rows[0], next(kept for kept in rows if self._asked[kept] != self._asked[rows[0]])
        named = ", ".join(map(str, places[:_MOST_NAMED]))
        more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
        difference = self._difference(first, other)
        low, high = likeness
        spread = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
        return Finding(
            check="near_duplicates",
            kind="same-answer" if same_answer else "other-answer",
            severity="warning" if many or crowd else "info",
            confidence=0.9 if same_answer else 0.6,
            rows=tuple(place.id for place in places),
            detail=f"{len(rows)} rows ask nearly the same (likeness {spread}): {named}{more}; "
            f"{places[0]} and {places[rows.index(other)]} differ in {difference}.",
            fix=_fix(same_answer, str(places[0])),
            repairs=tuple(Repair(place.id, "drop", safe=False) for place in places[1:]) if same_answer else (),
        )

    def _difference(self, one: int, other: int) -> str:
        """Say which words only one of two questions has; private values, which a finding may not pass on, are no words."""
        asked = [question(self._context.row_at(self._positions[kept])) for kept in (one, other)]
        plain = [covered(text) for text in asked]
        lefts, rights = (Counter(normalized(text).split()) for text in plain)
        only_left, only_right = list((lefts - rights).elements()), list((rights - lefts).elements())
        if only_left or only_right:
            return f"{_words(only_left)} against {_words(only_right)}"
        return "private values" if plain != asked else "the order of the words"


def _together(context: Context) -> np.ndarray | None:
    """Tell of each row whether it shares its cluster with another; None without a split."""
    assignment = context.assignment
    if assignment is None:
        return None
    touched = np.array([-1 if row is None else row for row in assignment.touched], dtype=np.int64)
    leaked = np.array([rule in OVERLAPS.values() for rule in assignment.rule], dtype=bool)
    # A row that was set aside for likeness to two sides belongs with one of them.
    cluster = np.where((assignment.cluster < 0) & (touched >= 0), assignment.cluster[touched], assignment.cluster)
    sizes = np.bincount(cluster[~leaked & (cluster >= 0)], minlength=len(cluster))
    return ~leaked & ((cluster < 0) | (sizes[cluster] > 1))


def _components(links: Links) -> np.ndarray:
    size = len(links.questions)
    graph = coo_array((np.ones(len(links.left_P), dtype=np.int8), (links.left_P, links.right_P)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def _likeness(links: Links) -> dict[int, tuple[float, float]]:
    """Return the least and the greatest likeness of the pairs in each cluster."""
    cluster = _components(links)
    out: dict[int, tuple[float, float]] = {}
    for left, value in zip(links.left_P.tolist(), links.likeness_P().tolist()):
        low, high = out.get(int(cluster[left]), (1.0, 0.0))
        out[int(cluster[left])] = (min(low, value), max(high, value))
    return out


def _words(words: Sequence[str]) -> str:
    if not words:
        return "nothing"
    return repr(" ".join(word[:30] for word in words[:_MOST_WORDS])) + (" ..." if len(words) > _MOST_WORDS else "")


def _fix(same_answer: bool, first: str) -> str:
    if same_answer:
        return f"Keep {first} and drop the others, unless the small differences are what the model should learn."
    return "Nothing, if the small differences decide the answer; otherwise give all of them the right one."
