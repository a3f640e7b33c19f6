"""Answers behind one prompt: two of a preference, k samples of a group, the candidates that are to be scored.

All are sequences of one row, so a step keeps them together and a tree computes their prompt once. Objectives on them are
not linear in single tokens: they need sums over each answer, which `AnswerTargets` lays out.

Shapes: T targets of a batch, P pairs of a sequence and one of its targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.core.types import Rendered
from luthier.data.loader import Batch, SequenceStore
from luthier.data.tree import in_tree_order


@dataclass(frozen=True)
class AnswerTargets:
    """Which targets belong to which sequence of a batch, with which weight; one target may belong to several."""

    sequence_P: np.ndarray
    target_P: np.ndarray
    weight_P: np.ndarray
    num_sequences: int


def behind(row: str, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> list[Rendered]:
    """Return a sequence for each answer behind the prompt; answers are trained, the prompt is not."""
    made = []
    for answer in answers:
        tokens = np.array([*prompt, *answer], dtype=np.int32)
        weights = np.zeros(len(tokens), dtype=np.float32)
        weights[len(prompt) :] = 1
        made.append(Rendered(row, tokens, weights))
    return made


def answer_targets(store: SequenceStore, indices: Sequence[int] | np.ndarray, batch: Batch) -> AnswerTargets:
    """Return the targets of each sequence of a tree, numbered as they stand in `indices`, of which the tree was made."""
    assert batch.tree is not None and len(indices) == len(batch.rows)
    size = int(batch.target_T.max()) + 1
    keys_T = batch.index_T * size + batch.target_T  # sorted, as a tree's targets are
    sequence, target, weight = [], [], []
    in_tree = in_tree_order([store.tokens(index) for index in indices])
    for place, number in enumerate(in_tree.tolist()):
        index = int(indices[number])
        tokens, weights = store.tokens(index), store.weights(index)
        trained = np.flatnonzero(weights)
        keys = batch.tree.places_of_row(place)[trained - 1] * size + tokens[trained]
        found = np.searchsorted(keys_T, keys)
        assert (keys_T[found] == keys).all(), "a target of a sequence is not among those of its tree"
        sequence.append(np.full(len(trained), number))
        target.append(found)
        weight.append(weights[trained])
    sequence_P, target_P, weight_P = (np.concatenate(parts) for parts in (sequence, target, weight))
    return AnswerTargets(sequence_P, target_P, weight_P, len(indices))
