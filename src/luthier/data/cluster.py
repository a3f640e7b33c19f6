"""Which rows belong together: the same question, nearly the same question, or the same group."""

from array import array
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from luthier.core.errors import SettingsError
from luthier.data.minhash import Progress, near_pairs
from luthier.data.normal import normalized, text_key
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
    questions: Sequence[str]
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
    asked = array("q")
    first = array("q")
    fresh = _fresh(questions, asked, first)
    if threshold < 1:
        sets = shingle_sets(fresh, form)
    else:
        sets = ()
        deque(fresh, maxlen=0)
    distinct_questions = Questions(questions, first)
    total = sum(len(kind.members_N) for kind in sets)
    codes = np.empty(0, dtype=np.int64)
    done = 0
    for kind in sets:
        left_P, right_P = near_pairs(kind, threshold, _within(progress, done, len(kind.members_N), total))
        codes = np.concatenate([codes, kind.members_N[left_P] * len(first) + kind.members_N[right_P]])
        done += len(kind.members_N)
    # Texts of middle length are compared in both ways and can be found twice.
    left_P, right_P = np.divmod(distinct(codes), max(1, len(first)))
    return Links(np.array(asked, dtype=np.int64), distinct_questions, left_P, right_P, sets)


class Questions(Sequence[str]):
    """The different questions in their normalized form, made anew at each look: held twice, a million would not fit."""

    def __init__(self, texts: Sequence[str], first: Sequence[int]) -> None:
        self._texts = texts
        self._first = first

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, number: int) -> str:
        return normalized(self._texts[self._first[number]])


def _fresh(texts: Sequence[str], asked: "array[int]", first: "array[int]") -> Iterator[str]:
    """Yield each normalized text that was not there before, entering for every text its number and its first place."""
    numbers: dict[bytes, int] = {}
    for place, text in enumerate(texts):
        plain = normalized(text)
        number = numbers.setdefault(text_key(plain), len(numbers))
        asked.append(number)
        if number == len(first):
            first.append(place)
            yield plain


def _within(progress: Progress | None, done: int, share: int, total: int) -> Progress | None:
    """Return a progress for one stretch of `share` out of `total`."""
    if progress is None:
        return None
    return lambda part: progress((done + part * share) / total)


def _first_places(keys: Iterable[Hashable]) -> np.ndarray:
    """Return for every key the place where it stood first."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, place) for place, key in enumerate(keys)], dtype=np.int64)
