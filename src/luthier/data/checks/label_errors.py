"""Labels that are probably wrong: a quick model that has not seen the row is sure of another one.

Confident learning (see `luthier.data.confident`) over a linear model of n-grams, fitted out of fold. It looks at
answers that are labels, and at fields of JSON answers that are; a label on fewer rows than there are folds is
never doubted. Nothing is changed without a person's word: the other label is a proposal. The work is bounded to about
half a minute: of more rows an even sample is looked at, of more labels the commonest, and the findings say so.

What it cannot see: errors that a whole group of like rows shares, labels that need more than the words of the
question, rows beyond the sample, and anything about answers that are prose or extracted values.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np

from luthier.core.types import Conversation, Finding, Repair, Row
from luthier.data.answers_kind import Labels, with_answer, with_value
from luthier.data.checking import Context, Dimension
from luthier.data.cluster import cluster
from luthier.data.confident import Doubts, Skill, doubts, skill
from luthier.data.gathered import shown
from luthier.data.labelled import WHOLE, Labelled, label_texts, labelled_rows, sampled_positions, within
from luthier.data.normal import answer, place, question
from luthier.data.out_of_fold import (
    FOLDS,
    LONGEST_TEXT,
    ngram_weights,
    num_affordable,
    num_classes_affordable,
    num_epochs,
    out_of_fold,
)

_FEWEST_ROWS = 50
_FEWEST_ROWS_A_LABEL = 5
_MOST_ROWS = 100_000
_MOST_FIELDS = 40
_MOST_NAMED = 10_000
_FIELD_SHARE = 0.95
_NEAR_DUPLICATE = 0.8
# Fetching one row takes as long as reading this many in order.
_FETCHED = 8
# Below this a model tells the labels hardly better than who always says the commonest, and its doubts mean nothing.
_LEAST_SKILL = 0.35
_FALSE_DOUBTS = 0.01
# Where labels have few rows the model knows them less, and doubts more right ones: their share falls with the rows a label.
_FALSE_DOUBTS_OF_ROWS = 1.5
_LEAST_SURE, _MOST_SURE, _SUREST = 0.3, 0.8, 0.95
_TILT = 0.4


class Check:
    """Rank the rows whose label the other rows do not bear out, one finding a row, the most doubtful first."""

    dimension: ClassVar[Dimension] = "consistent"
    effect: ClassVar[str] = "Wrong labels are learned, and in the test part they mark right answers as wrong."
    blind: ClassVar[str] = (
        "Errors shared by all rows of a kind, labels that do not follow from the words, prose; rows and rare labels "
        "beyond what half a minute allows."
    )

    def __init__(self, context: Context) -> None:
        self._context = context
        self._num_rows = 0
        self._num_characters = 0
        self._labels: dict[str, Labels] = {}

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Count the answer, or the fields of a JSON answer."""
        if isinstance(row.content, Conversation):
            self._num_rows += 1
            self._num_characters += min(len(question(row)), LONGEST_TEXT)
            for path, text in label_texts(answer(row).strip()):
                if path in self._labels or len(self._labels) < _MOST_FIELDS:
                    self._labels.setdefault(path, Labels()).add(position, text)
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield what is doubted, after one finding that says how many labels are probably wrong in all."""
        labelled = [one for path, labels in self._labels.items() if (one := self._labelled(path, labels)) is not None]
        if not labelled:
            return
        mean_length = self._num_characters / self._num_rows
        labelled = within(labelled, num_classes_affordable(mean_length))
        num_classes = sum(len(one.names) for one in labelled)
        most = min(_MOST_ROWS, num_affordable(mean_length, num_classes))
        position_N = sampled_positions(labelled, most, self._context.seed)
        texts_by_position = {position: question(row)[:LONGEST_TEXT] for position, row in self._rows(position_N)}
        texts = [texts_by_position[position] for position in position_N.tolist()]
        features, cluster_N = ngram_weights(texts), cluster(texts, [None] * len(texts), _NEAR_DUPLICATE)
        epochs = num_epochs(features, num_classes)
        for one in labelled:
            looked_at = one.among(position_N, FOLDS)
            if len(looked_at.names) < 2:
                continue
            here = np.searchsorted(position_N, looked_at.position_N)
            probability_NC = out_of_fold(features[here], looked_at.class_N, cluster_N[here], epochs, self._context.seed)
            yield from self._findings(looked_at, probability_NC)

    def _labelled(self, path: str, labels: Labels) -> Labelled | None:
        """Return the rows that could be looked at with their classes, or None where the answers are not labels."""
        if len(labels.positions) < max(_FEWEST_ROWS, _FIELD_SHARE * self._num_rows) or not labels.are_labels:
            return None
        times = labels.key_counts()
        if sum(times.values()) < _FEWEST_ROWS_A_LABEL * len(times):
            return None
        return labelled_rows(path, labels, FOLDS)

    def _findings(self, labelled: Labelled, probability_NC: np.ndarray) -> Iterator[Finding]:
        able = skill(probability_NC, labelled.class_N)
        if able.share < _LEAST_SKILL:
            yield _untold(labelled, able)
            return
        found = doubts(probability_NC, labelled.class_N)
        if not len(found.row) and len(labelled.position_N) == labelled.num_rows:
            return
        position_N = labelled.position_N[found.row]
        by_position = dict(self._rows(position_N[:_MOST_NAMED]))
        rows = [by_position[position] for position in position_N[:_MOST_NAMED].tolist()]
        yield _summary(labelled, found, rows)
        for rank, confidence in enumerate(_confidences(len(found.row), labelled)[: len(rows)]):
            suggested = labelled.names[int(found.suggestion[rank])]
            shares = found.given[rank], found.suggested[rank]
            yield _doubt(labelled.path, rows[rank], suggested, shares, confidence)

    def _rows(self, position_N: np.ndarray) -> Iterator[tuple[int, Row]]:
        """Yield the rows at some positions in the order in which they lie: few are fetched, many are streamed by."""
        if len(position_N) * _FETCHED < self._context.num_rows:
            yield from ((position, self._context.row_at(position)) for position in np.sort(position_N).tolist())
        else:
            wanted = set(position_N.tolist())
            yield from ((position, row) for position, row in enumerate(self._context.read()) if position in wanted)


def _summary(labelled: Labelled, found: Doubts, rows: Sequence[Row]) -> Finding:
    pairs = Counter((_given(labelled.path, row), other) for row, other in zip(rows, found.suggestion.tolist()))
    if rows:
        wrong = f"; an estimated {found.estimated_share:.1%} are wrong or could as well be another"
        between = f", between {len(pairs):,} pairs of labels{wrong}"
    else:
        between = ""
    more = f"; the {len(rows):,} most doubtful are listed" if len(rows) < len(found.row) else ""
    detail = f"{len(found.row):,} of {_looked_at(labelled)} are doubted{between}{more}."
    fix = "Review the findings that follow from the top and stop where they turn out right; accept or refuse each."
    return Finding("label_errors", "estimate", "info", 0.5, tuple(row.id for row in rows), detail, fix)


def _untold(labelled: Labelled, able: Skill) -> Finding:
    detail = (
        f"A quick model gets {able.right:.0%} of {_looked_at(labelled)} right, where always saying the commonest gets {able.usual:.0%}: "
        "they do not follow from the words of the question, so wrong ones cannot be told."
    )
    fix = "Read a sample of the rows yourself; look whether what decides the label stands in the question at all."
    return Finding("label_errors", "untold", "info", 0.6, (), detail, fix)


def _looked_at(labelled: Labelled) -> str:
    """Say which labels were looked at, and what was left out."""
    num_seen, num_classes = len(labelled.position_N), len(labelled.names)
    of_what = f"values of {labelled.path!r}" if labelled.path else "labels"
    left_out = []
    if num_seen < labelled.num_rows:
        left_out.append(f"a sample of {labelled.num_rows:,}")
    if num_classes < labelled.num_labels:
        left_out.append(f"the {num_classes:,} commonest of {labelled.num_labels:,} labels")
    return f"{num_seen:,} {of_what}" + (f" ({'; '.join(left_out)})" if left_out else "")


def _given(path: str, row: Row) -> str:
    text = answer(row).strip()
    return text if path == WHOLE else dict(label_texts(text))[path]


def _confidences(num_doubted: int, labelled: Labelled) -> list[float]:
    """Return how sure each doubt is, in the order of the ranking: measured, not what the model believes of itself.

    About one right label in a hundred is doubted (Banking77 and CLINC150, judged row by row), and more where labels
    have few rows (`docs/experiments/label-errors.md`). So where few rows are doubted most of the doubts are false,
    and where many are most are true. The first are true more often.
    """
    num_seen = len(labelled.position_N)
    false = max(_FALSE_DOUBTS, _FALSE_DOUBTS_OF_ROWS * len(labelled.names) / num_seen)
    mean = min(_MOST_SURE, max(_LEAST_SURE, 1 - false * num_seen / num_doubted)) if num_doubted else _LEAST_SURE
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
