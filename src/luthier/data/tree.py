"""Rows that begin alike, laid out as a token tree: what they share stands there once.

The tree is a trie over token ids whose unbranched runs are segments. It knows nothing of models: how
attention or a cache follows it is decided in `kernels/`. A target is a triple (flat position that
predicts it, token, weight); a position where rows part predicts several tokens, and a token that
several rows train in the same place is one target with the sum of their weights.

Shapes: N flat positions, T targets, R rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from luthier.core.types import Segment

# Each branch costs a few positions of padding and products of its own, so fewer tokens are not worth one.
LEAST_SHARED = 8


@dataclass(frozen=True)
class Tree:
    """Segments in an order where each follows its parent, and siblings that end rows stand together.

    `tokens_N` and `position_N` are int64; padding is token 0 at position 0. Row r ends with segment
    `ends[r]` and has `lengths[r]` tokens.
    """

    segments: tuple[Segment, ...]
    tokens_N: np.ndarray
    position_N: np.ndarray
    ends: tuple[int, ...]
    lengths: tuple[int, ...]

    def places_of_row(self, row: int) -> np.ndarray:
        """Return the flat positions of a row's tokens, in order."""
        parts, number = [], self.ends[row]
        while number >= 0:
            segment = self.segments[number]
            parts.append(np.arange(segment.start, segment.start + segment.length))
            number = segment.parent
        return np.concatenate(parts[::-1])


@dataclass(frozen=True)
class Targets:
    """What a tree is trained on, sorted by position and token; `num_of_rows` counts them before rows were joined."""

    index_T: np.ndarray
    target_T: np.ndarray
    weight_T: np.ndarray
    num_of_rows: int


def in_tree_order(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the order of rows by their tokens, which puts those that share most side by side."""
    return np.array(sorted(range(len(rows)), key=lambda row: rows[row].astype(">u4").tobytes()), dtype=np.int64)


def shared_with_next(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return, for each row but the last, how many tokens it begins with in common with the next."""
    return np.array([_common(one, other) for one, other in pairwise(rows)], dtype=np.int64)


def grow(rows: Sequence[np.ndarray], *, multiple: int, least_shared: int = LEAST_SHARED) -> Tree:
    """Lay rows, in the order of `in_tree_order`, out as a tree; segments take places of a multiple of `multiple`.

    Rows part where they share fewer than `least_shared` further tokens.
    """
    drafts: list[_Draft] = []
    ends = [-1] * len(rows)
    _branch(rows, shared_with_next(rows), _Fork(0, len(rows), 0, -1), least_shared, drafts, ends)
    tokens, position, segments, start = [], [], [], 0
    for draft in drafts:
        ids = rows[draft.row][draft.depth : draft.end]
        place = -(-len(ids) // multiple) * multiple
        segments.append(Segment(start, len(ids), place, draft.depth, draft.parent))
        tokens.append(np.pad(ids.astype(np.int64), (0, place - len(ids))))
        position.append(np.pad(np.arange(draft.depth, draft.end), (0, place - len(ids))))
        start += place
    lengths = tuple(len(row) for row in rows)
    return Tree(tuple(segments), np.concatenate(tokens), np.concatenate(position), tuple(ends), lengths)


def most_positions(rows: Sequence[np.ndarray], *, multiple: int, least_shared: int = LEAST_SHARED) -> np.ndarray:
    """Return what each row adds at most to the places of a tree that holds the rows before it, shape R.

    The first entry, and that of a row that shares nothing with the one before it, is its whole place.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    shared = np.concatenate([[0], shared_with_next(rows)]) if len(rows) else lengths
    # A row leaves the tree at most `least_shared - 1` tokens before it differs, and splits one segment in two.
    kept = np.where(shared >= least_shared, shared - least_shared + 1, 0)
    return -(-(lengths - kept) // multiple) * multiple + np.where(shared >= least_shared, multiple, 0)


def targets(tree: Tree, rows: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> Targets:
    """Return the targets of a tree from the target weights of its rows, aligned with their tokens."""
    index, target, weight = [], [], []
    for row, (ids, own) in enumerate(zip(rows, weights, strict=True)):
        where, trained = tree.places_of_row(row), np.flatnonzero(own)
        assert (tree.tokens_N[where] == ids).all(), "a row of a tree is not the row that went in"
        index.append(where[trained - 1])
        target.append(ids[trained])
        weight.append(own[trained])
    return _joined(*(np.concatenate(parts) for parts in (index, target, weight)))


@dataclass(frozen=True)
class _Draft:
    """A segment before it has a place: the tokens `depth` to `end` of a row."""

    row: int
    depth: int
    end: int
    parent: int


@dataclass(frozen=True)
class _Fork:
    """The rows `first` to `last` that part `depth` tokens in, behind segment `parent`."""

    first: int
    last: int
    depth: int
    parent: int


def _branch(
    rows: Sequence[np.ndarray], shared: np.ndarray, fork: _Fork, least: int, drafts: list[_Draft], ends: list[int]
) -> None:
    """Add what lies behind a fork: first the segments that end a row, by length, then those that branch again."""
    groups = list(_groups(shared, fork, least))
    alone = sorted((first for first, last in groups if last - first == 1), key=lambda row: len(rows[row]))
    for row in alone:
        if len(rows[row]) > fork.depth:
            drafts.append(_Draft(row, fork.depth, len(rows[row]), fork.parent))
            ends[row] = len(drafts) - 1
        else:
            ends[row] = fork.parent
    for first, last in groups:
        if last - first > 1:
            end = int(shared[first : last - 1].min())
            drafts.append(_Draft(first, fork.depth, end, fork.parent))
            _branch(rows, shared, _Fork(first, last, end, len(drafts) - 1), least, drafts, ends)


def _groups(shared: np.ndarray, fork: _Fork, least: int) -> Iterator[tuple[int, int]]:
    borders = np.flatnonzero(shared[fork.first : fork.last - 1] < fork.depth + least) + fork.first + 1
    yield from pairwise([fork.first, *borders.tolist(), fork.last])


def _common(one: np.ndarray, other: np.ndarray) -> int:
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


def _joined(index: np.ndarray, target: np.ndarray, weight: np.ndarray) -> Targets:
    pairs, where = np.unique(np.stack([index, target], axis=1).reshape(-1, 2), axis=0, return_inverse=True)
    summed = np.bincount(where.reshape(-1), weights=weight, minlength=len(pairs))
    return Targets(
        pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), summed.astype(np.float32), len(index)
    )  # fmt: skip
