"""Labels that are probably wrong: a quick model that has not seen the row is sure of another one.

Confident learning (see `luthier.data.confident`) over a linear model of n-grams, fitted out of fold. It looks at
answers that are labels, and at fields of JSON answers that are; a label on fewer rows than there are folds is
never doubted. Nothing is changed without a person's word: the other label is a proposal.

What it cannot see: errors that a whole group of like rows shares, labels that need more than the words of the
question, and anything about answers that are prose or extracted values.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from luthier.core.hashing import derived_seed
from luthier.core.types import Conversation, Finding, Repair, Row
from luthier.data.answers_kind import Labels, as_json_object, scalars, spelling_key, with_answer, with_value
from luthier.data.checking import Context, Dimension
from luthier.data.cluster import cluster
from luthier.data.confident import Doubts, doubts
from luthier.data.gathered import shown
from luthier.data.normal import answer, place, question
from luthier.data.out_of_fold import FOLDS, num_affordable, out_of_fold

_FEWEST_ROWS = 50
_FEWEST_ROWS_A_LABEL = 5
_MOST_ROWS = 100_000
_MOST_FIELDS = 40
_FIELD_SHARE = 0.95
_NEAR_DUPLICATE = 0.8
_LONGEST_KEPT = 2_000
_FALSE_DOUBTS = 0.01
_LEAST_SURE, _MOST_SURE, _SUREST = 0.3, 0.8, 0.95
_TILT = 0.4
_WHOLE = ""


class Check:
    """Rank the rows whose label the other rows do not bear out, one finding a row, the most doubtful first."""

    dimension: ClassVar[Dimension] = "consistent"
    effect: ClassVar[str] = "Wrong labels are learned, and in the test part they mark right answers as wrong."
    blind: ClassVar[str] = "Errors shared by all rows of a kind, labels that do not follow from the words, prose."

    def __init__(self, context: Context) -> None:
        self._context = context
        self._num_rows = 0
        self._labels: dict[str, Labels] = {}

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Count the answer, or the fields of a JSON answer."""
        if isinstance(row.content, Conversation):
            self._num_rows += 1
            for path, text in _label_texts(answer(row).strip()):
                if path in self._labels or len(self._labels) < _MOST_FIELDS:
                    self._labels.setdefault(path, Labels()).add(position, text)
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield what is doubted, after one finding that says how many labels are probably wrong in all."""
        for path, labels in self._labels.items():
            classes = self._classes(labels)
            if classes is not None:
                yield from self._findings(path, classes)

    def _classes(self, labels: Labels) -> "_Classes | None":
        """Return the rows to look at with their classes, or None where the answers are not labels."""
        if len(labels.positions) < max(_FEWEST_ROWS, _FIELD_SHARE * self._num_rows) or not labels.are_labels:
            return None
        times = labels.key_counts()
        kept = [key for key, count in times.items() if count >= FOLDS]
        if len(kept) < 2 or sum(times.values()) < _FEWEST_ROWS_A_LABEL * len(times):
            return None
        number = {key: place for place, key in enumerate(kept)}
        class_of_code = np.array([number.get(key, -1) for key in labels.keys().values()])
        class_N = class_of_code[np.frombuffer(labels.codes, dtype=np.int32)]
        usable = np.flatnonzero(class_N >= 0)
        usable = _sample(usable, _MOST_ROWS, self._context.seed)
        return _Classes(np.frombuffer(labels.positions, dtype=np.int32)[usable], class_N[usable], _names(labels, kept))

    def _findings(self, path: str, classes: "_Classes") -> Iterator[Finding]:
        texts = self._questions(classes.position_N)
        sample = _sample(np.arange(len(texts)), num_affordable(texts, len(classes.names)), self._context.seed)
        texts, classes = [texts[place] for place in sample], classes.at(sample)
        cluster_N = cluster(texts, [None] * len(texts), _NEAR_DUPLICATE)
        probability_NC = out_of_fold(texts, classes.class_N, cluster_N, self._context.seed)
        found = doubts(probability_NC, classes.class_N)
        if not len(found.row):
            return
        rows = [self._context.row_at(int(classes.position_N[row])) for row in found.row]
        yield _summary(path, found, rows, len(texts), self._num_rows)
        for rank, confidence in enumerate(_confidences(len(rows), len(texts))):
            suggested = classes.names[int(found.suggestion[rank])]
            yield _doubt(path, rows[rank], suggested, (found.given[rank], found.suggested[rank]), confidence)

    def _questions(self, position_N: np.ndarray) -> list[str]:
        wanted = set(position_N.tolist())
        texts = {
            position: question(row)[:_LONGEST_KEPT]
            for position, row in enumerate(self._context.read())
            if position in wanted
        }
        return [texts[position] for position in position_N.tolist()]


@dataclass(frozen=True)
class _Classes:
    """The rows that are looked at, their classes, and the usual spelling of each class."""

    position_N: np.ndarray
    class_N: np.ndarray
    names: list[str]

    def at(self, places: np.ndarray) -> "_Classes":
        """Return some of the rows."""
        return _Classes(self.position_N[places], self.class_N[places], self.names)


def _label_texts(text: str) -> Iterator[tuple[str, str]]:
    """Yield what may be a label: the whole answer, or the texts in a JSON object with their paths."""
    value = as_json_object(text)
    if value is None:
        if text:
            yield _WHOLE, text
        return
    for path, inner in scalars(value):
        if isinstance(inner, str) and path and "[]" not in path:
            yield path, inner


def _sample(places: np.ndarray, most: int, seed: int) -> np.ndarray:
    if len(places) <= most:
        return places
    rng = np.random.Generator(np.random.Philox(derived_seed(seed, "label errors")))
    return np.sort(rng.choice(places, most, replace=False))


def _names(labels: Labels, keys: Sequence[str]) -> list[str]:
    """Return the most common spelling of each label."""
    best: dict[str, tuple[int, str]] = {}
    for code, count in enumerate(labels.spelling_counts()):
        text = labels.spellings[code]
        key = spelling_key(text)
        if key not in best or count > best[key][0]:
            best[key] = (count, text)
    return [best[key][1] for key in keys]


def _summary(path: str, found: Doubts, rows: Sequence[Row], num_seen: int, num_rows: int) -> Finding:
    of_what = f"values of {path!r}" if path else "labels"
    sampled = f" (a sample of {num_rows:,})" if num_seen < _FIELD_SHARE * num_rows else ""
    pairs = Counter((_given(path, row), place) for row, place in zip(rows, found.suggestion.tolist()))
    detail = (
        f"{len(rows):,} of {num_seen:,} {of_what}{sampled} are doubted, between {len(pairs):,} pairs of labels; "
        f"an estimated {found.estimated_share:.1%} are wrong or could as well be another."
    )
    fix = "Review the findings that follow from the top and stop where they turn out right; accept or refuse each."
    return Finding("label_errors", "estimate", "info", 0.5, tuple(row.id for row in rows), detail, fix)


def _given(path: str, row: Row) -> str:
    text = answer(row).strip()
    return text if path == _WHOLE else dict(_label_texts(text))[path]


def _confidences(num_doubted: int, num_seen: int) -> list[float]:
    """Return how sure each doubt is, in the order of the ranking: measured, not what the model believes of itself.

    About one right label in a hundred is doubted (Banking77 and CLINC150, judged row by row), so where few rows
    are doubted most of the doubts are false, and where many are most are true. The first are true more often.
    """
    share = num_doubted / num_seen
    mean = min(_MOST_SURE, max(_LEAST_SURE, 1 - _FALSE_DOUBTS / share))
    slope = np.linspace(1 + _TILT, 1 - _TILT, num_doubted) if num_doubted > 1 else [1.0]
    return [round(min(_SUREST, mean * float(one)), 2) for one in slope]


def _doubt(path: str, row: Row, suggested: str, shares: tuple[float, float], confidence: float) -> Finding:
    given = _given(path, row)
    field = f" in {path!r}" if path else ""
    detail = (
        f"{place(row)} says {shown(given)}{field}, but rows with such words say {shown(suggested)} "
        f"({shares[0]:.0%} against {shares[1]:.0%}): {shown(question(row))}."
    )
    fix = f"Read it, and accept {shown(suggested)} if that is right."
    content = with_answer(row.content, with_value(answer(row), path, suggested) if path else suggested)
    return Finding(
        check="label_errors",
        kind="label" if not path else "field",
        severity="warning" if confidence > 0.5 else "info",
        confidence=confidence,
        rows=(row.id,),
        detail=detail,
        fix=fix,
        repairs=(Repair(row.id, "fix", safe=False, content=content),),
    )
