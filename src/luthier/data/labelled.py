"""Which rows carry a label, and which of them there is time to look at.

A label is the whole answer or a text in a JSON answer. Where there are more rows or more labels than the work
allows, the commonest labels are looked at on an even sample of their rows; what is left out is known and can be said.

Suffixes: N rows, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.core.hashing import generator
from luthier.data.answers_kind import Labels, as_json_object, scalars, spelling_key

WHOLE = ""


@dataclass(frozen=True)
class Labelled:
    """Rows with a label at one path: their positions (rising), their classes, and the usual spelling of each class.

    `num_labels` counts all labels that have enough rows, also those that are not looked at; `num_rows` all their rows.
    """

    path: str
    position_N: np.ndarray
    class_N: np.ndarray
    names: list[str]
    num_labels: int
    num_rows: int

    def only(self, class_C: np.ndarray) -> "Labelled":
        """Return the rows of these classes, which count from 0 anew."""
        new_C = np.full(len(self.names), -1)
        new_C[class_C] = np.arange(len(class_C))
        kept = np.flatnonzero(new_C[self.class_N] >= 0)
        names = [self.names[place] for place in class_C.tolist()]
        return self._with(self.position_N[kept], new_C[self.class_N[kept]], names)

    def commonest(self, most: int) -> "Labelled":
        """Return the rows of the `most` commonest classes."""
        if len(self.names) <= most:
            return self
        counts_C = np.bincount(self.class_N, minlength=len(self.names))
        return self.only(np.sort(np.argsort(-counts_C, kind="stable")[:most]))

    def among(self, position_N: np.ndarray, fewest: int) -> "Labelled":
        """Return the rows at these positions, without classes that have fewer than `fewest` rows there."""
        here = np.isin(self.position_N, position_N, assume_unique=True)
        kept = self._with(self.position_N[here], self.class_N[here], self.names)
        counts_C = np.bincount(kept.class_N, minlength=len(self.names))
        return kept if counts_C.min() >= fewest else kept.only(np.flatnonzero(counts_C >= fewest))

    def _with(self, position_N: np.ndarray, class_N: np.ndarray, names: list[str]) -> "Labelled":
        return Labelled(self.path, position_N, class_N, names, self.num_labels, self.num_rows)


def labelled_rows(path: str, labels: Labels, fewest: int) -> Labelled | None:
    """Return the rows of the labels that have at least `fewest` rows each; None unless there are two such labels."""
    kept = [key for key, count in labels.key_counts().items() if count >= fewest]
    if len(kept) < 2:
        return None
    number = {key: place for place, key in enumerate(kept)}
    class_of_code = np.array([number.get(key, -1) for key in labels.keys().values()])
    class_N = class_of_code[np.frombuffer(labels.codes, dtype=np.int32)]
    usable = np.flatnonzero(class_N >= 0)
    position_N = np.frombuffer(labels.positions, dtype=np.int32)[usable]
    return Labelled(path, position_N, class_N[usable], _names(labels, kept), len(kept), len(usable))


def within(labelled: Sequence[Labelled], most_classes: int) -> list[Labelled]:
    """Return the rows of at most so many classes in all, the room dealt evenly among the paths that want it."""
    by_size = sorted(range(len(labelled)), key=lambda place: len(labelled[place].names))
    kept = list(labelled)
    for done, place in enumerate(by_size):
        kept[place] = labelled[place].commonest(max(2, most_classes // (len(labelled) - done)))
        most_classes -= len(kept[place].names)
    return kept


def sampled_positions(labelled: Sequence[Labelled], most: int, seed: int) -> np.ndarray:
    """Return the positions of all rows, or of an even sample of `most` of them, rising."""
    position_N = np.unique(np.concatenate([one.position_N for one in labelled]))
    if len(position_N) <= most:
        return position_N
    return np.sort(generator(seed, "label errors").choice(position_N, most, replace=False))


def label_texts(text: str) -> Iterator[tuple[str, str]]:
    """Yield what may be a label: the whole answer, or the texts in a JSON object with their paths."""
    value = as_json_object(text)
    if value is None:
        if text:
            yield WHOLE, text
        return
    for path, inner in scalars(value):
        if isinstance(inner, str) and path and "[]" not in path:
            yield path, inner


def _names(labels: Labels, keys: Sequence[str]) -> list[str]:
    """Return the most common spelling of each label."""
    best: dict[str, tuple[int, str]] = {}
    for code, count in enumerate(labels.spelling_counts()):
        text = labels.spellings[code]
        key = spelling_key(text)
        if key not in best or count > best[key][0]:
            best[key] = (count, text)
    return [best[key][1] for key in keys]
