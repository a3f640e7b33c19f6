"""Which rows belong together: the same question, nearly the same question, or the same group."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from luthier.core.errors import SettingsError
from luthier.data.minhash import Progress, near_pairs
from luthier.data.normal import normalized
from luthier.data.shingles import Form, ShingleSets, distinct, shingle_sets

_LOWEST_THRESHOLD = 0.3


@dataclass(frozen=True)
class Links:
    """What ties rows together by their questions.

    `asked_N[i]` is the number of row i's normalized question, counted in order of appearance, and
    `questions[asked_N[i]]` its text. The questions `left_P[p]` and `right_P[p]` are nearly the same;
    `sets` holds the shingles that were compared.
    """

    asked_N: np.ndarray
    questions: list[str]
    left_P: np.ndarray
    right_P: np.ndarray
    sets: tuple[ShingleSets, ...]

    def likeness_P(self) -> np.ndarray:
        """Return the Jaccard similarity of each pair; where two texts are compared in both ways the higher one."""
        likeness_P = np.zeros(len(self.left_P))
        for kind in self.sets:
            place = np.full(len(self.questions), -1)
            place[kind.members_N] = np.arange(len(kind.members_N))
            left_P, right_P = place[self.left_P], place[self.right_P]
            both = np.flatnonzero((left_P >= 0) & (right_P >= 0))
            likeness_P[both] = np.maximum(likeness_P[both], kind.jaccard(left_P[both], right_P[both]))
        return likeness_P


def cluster(
    questions: Sequence[str],
    groups: Sequence[str | None],
    threshold: float,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the cluster of every row, named by the place of the cluster's first row.

    Rows are joined when their normalized questions are equal, when the shingles of the questions have a
    Jaccard similarity of at least `threshold` (verified pair by pair; 1 joins equal ones only), or when
    they share a group.
    """
    links = link(questions, threshold, progress)
    num_rows = len(questions)
    first_of_question = _first_places(links.asked_N.tolist())
    first_of_group = _first_places(place if group is None else group for place, group in enumerate(groups))
    asked_first = np.unique(links.asked_N, return_index=True)[1]
    rows = np.arange(num_rows)
    left = np.concatenate([rows, rows, asked_first[links.left_P]])
    right = np.concatenate([first_of_question, first_of_group, asked_first[links.right_P]])
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(num_rows, num_rows))
    return _first_places(connected_components(graph, directed=False)[1].tolist())


def link(
    questions: Sequence[str], threshold: float, progress: Progress | None = None, form: Form | None = None
) -> Links:
    """Find equal and nearly equal questions; `form` is that of the texts from which these were picked out."""
    if threshold < _LOWEST_THRESHOLD:
        raise SettingsError(
            f"split.near_duplicate is {threshold:g}; below {_LOWEST_THRESHOLD} unrelated questions count as alike. "
            "Use 0.3 to 1 (1 keeps only equal questions together)."
        )
    numbers: dict[str, int] = {}
    asked = [numbers.setdefault(normalized(text), len(numbers)) for text in questions]
    sets = shingle_sets(list(numbers), form) if threshold < 1 else ()
    total = sum(len(kind.members_N) for kind in sets)
    codes = np.empty(0, dtype=np.int64)
    done = 0
    for kind in sets:
        left_P, right_P = near_pairs(kind, threshold, _within(progress, done, len(kind.members_N), total))
        codes = np.concatenate([codes, kind.members_N[left_P] * len(numbers) + kind.members_N[right_P]])
        done += len(kind.members_N)
    # Texts of middle length are compared in both ways and can be found twice.
    left_P, right_P = np.divmod(distinct(codes), max(1, len(numbers)))
    return Links(np.array(asked, dtype=np.int64), list(numbers), left_P, right_P, sets)


def _within(progress: Progress | None, done: int, share: int, total: int) -> Progress | None:
    """Return a progress for one stretch of `share` out of `total`."""
    if progress is None:
        return None
    return lambda part: progress((done + part * share) / total)


def _first_places(keys: Iterable[Hashable]) -> np.ndarray:
    """Return for every key the place where it stood first."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, place) for place, key in enumerate(keys)], dtype=np.int64)
