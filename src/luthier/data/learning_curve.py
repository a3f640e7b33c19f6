"""How much more rows would help: a quick linear model on growing parts of the rows, and the line through its errors.

Errors of a model fall with the number of rows n about as a * n^-b (Hestness et al. 2017, arXiv 1712.00409), so
that each doubling multiplies them by the same factor. The linear model stands in for the tuned one: where
its curve is flat, more rows of the same kind say little that is new.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.core.hashing import generator

_HELD_OUT = 0.2
_FEWEST_ROWS = 200
_SHARES = (0.125, 0.25, 0.5, 1.0)
_DRAWS = 2
_LEAST_ERROR = 1e-3
# Rows times words times labels of one fit: half a second where the labels are hard to learn, and Ctrl-C waits for it.
_MOST_WORK = 15_000_000


@dataclass(frozen=True)
class Curve:
    """The share of held-out rows that are answered right, by the number of rows learned from."""

    rows: list[int]
    right: list[float]

    @property
    def doubling(self) -> float:
        """The factor by which each doubling of the rows multiplies the errors, from all points; 1 changes nothing."""
        errors = np.maximum(1 - np.array(self.right), _LEAST_ERROR)
        slope = float(np.polyfit(np.log2(self.rows), np.log2(errors), 1)[0])
        return min(1.0, 2.0**slope)

    @property
    def after_doubling(self) -> float:
        """The share right that twice the rows would give, if the curve goes on as it did."""
        return 1 - (1 - self.right[-1]) * self.doubling


def learning_curve(texts: Sequence[str], labels: Sequence[str], clusters: Sequence[int], seed: int) -> Curve | None:
    """Measure the curve on rows whose clusters are held out whole; None where the rows are too few to tell."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    rng = generator(seed, "learning curve")
    names = np.unique(clusters)
    held_out = np.isin(clusters, names[rng.random(len(names)) < _HELD_OUT])
    learned, asked = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    label_N = np.array(labels)
    if len(learned) < _FEWEST_ROWS or not len(asked) or len(set(labels)) < 2:
        return None
    learned = rng.permutation(learned)[: _num_affordable(texts, len(set(labels)))]
    if len(learned) < _FEWEST_ROWS:
        return None
    rows, right = [int(share * len(learned)) for share in _SHARES], []
    for count in rows:
        scores = []
        for _ in range(_DRAWS):
            drawn = rng.permutation(learned)[:count]
            if not 2 <= len(np.unique(label_N[drawn])) <= count / 2:
                return None  # one label teaches nothing, and neither do labels with hardly a row each
            words = TfidfVectorizer(
                tokenizer=str.split,
                token_pattern=None,  # type: ignore[arg-type]  # the stubs know a str only; without None it warns that it is not used
                lowercase=False,
                ngram_range=(1, 2),
                sublinear_tf=True,
            )
            model = LinearSVC(C=1.0, tol=1e-3, max_iter=200, random_state=0)
            model.fit(words.fit_transform([texts[place] for place in drawn.tolist()]), label_N[drawn])
            answers = np.asarray(model.predict(words.transform([texts[place] for place in asked.tolist()])))
            scores.append(float((answers == label_N[asked]).mean()))
        right.append(float(np.mean(scores)))
    return Curve(rows, right)


def _num_affordable(texts: Sequence[str], num_labels: int) -> int:
    """Return how many rows one fit may take; words and pairs of words are about as many as twice the spaces."""
    words = 2 * sum(text.count(" ") + 1 for text in texts) / len(texts)
    return int(_MOST_WORK / (words * num_labels))
