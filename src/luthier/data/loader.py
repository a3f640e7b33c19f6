"""Rendered sequences to batches: which rows make up each step, and how they lie in memory.

The order is a pure function of (seed, epoch), so nothing has to be saved to resume at any step.
Shapes: B sequences side by side, L positions, T targets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from luthier.core.hashing import generator
from luthier.core.types import Rendered
from luthier.data import tree
from luthier.data.tree import Tree

Layout = Literal["padded", "packed", "tree", "cached_tree"]
TREES: tuple[Layout, ...] = ("tree", "cached_tree")

# Places in a packed row are multiples of this. With rows of 20 to 300 tokens, lengths as they come make some
# hundred different attention shapes a step, each with its own oneDNN kernel and its own holes in the heap: memory
# grew from 1.0 to 2.1 GB in 35 steps of 4,096 tokens, and rows of 20 to 90 tokens took a tenth more time.
PLACE = 8

# A branch is a call of the whole model where a cache carries the prefix: it must share more to pay.
_LEAST_SHARED = {"tree": tree.LEAST_SHARED, "cached_tree": 4 * tree.LEAST_SHARED}


@dataclass(frozen=True)
class Batch:
    """What goes through the model at once.

    `tokens_BL` and `position_BL` are int64. A padded batch has one sequence a row; a packed one has
    B = 1 and its sequences one behind another, and tokens see only their own sequence. In a tree, B = 1 too,
    and tokens see the segments that lead to theirs. `lengths` are those of the sequences in order, `places` the
    positions that each (in a tree, each segment) takes with the padding behind it, which no token before it sees.
    Target t is predicted by the flat position `index_T[t]` of B x L. `num_trained` counts the targets of the
    sequences, of which a tree may join several into one.
    """

    tokens_BL: np.ndarray
    position_BL: np.ndarray
    lengths: tuple[int, ...]
    places: tuple[int, ...]
    index_T: np.ndarray
    target_T: np.ndarray
    weight_T: np.ndarray
    rows: tuple[str, ...]
    layout: Layout
    num_trained: int
    tree: Tree | None = None

    @property
    def num_positions(self) -> int:
        """The tokens that the model computes, padding included."""
        return self.tokens_BL.size

    @property
    def num_tokens(self) -> int:
        """The rows' own tokens, without padding."""
        return sum(self.lengths)


class SequenceStore:
    """All rendered sequences of one part, end to end in flat arrays; those behind the first `num_own` are replayed general ones."""

    def __init__(self, sequences: Sequence[Rendered], replayed: Sequence[Rendered] = ()) -> None:
        self.num_own = len(sequences)
        sequences = [*sequences, *replayed]
        self.rows = [sequence.row for sequence in sequences]
        self.lengths = np.array([len(sequence.tokens_L) for sequence in sequences], dtype=np.int64)
        self._ends = np.cumsum(self.lengths)
        empty = np.zeros(0)
        self._tokens = np.concatenate([s.tokens_L for s in sequences] or [empty]).astype(np.int32)
        self._weights = np.concatenate([s.weight_L for s in sequences] or [empty]).astype(np.float32)

    @classmethod
    def of(
        cls, rows: list[str], lengths: np.ndarray, tokens: np.ndarray, weights: np.ndarray, num_own: int
    ) -> "SequenceStore":
        """Return a store of flat arrays, such as `flat` gives."""
        store = cls([])
        store.rows, store.num_own, store.lengths = rows, num_own, lengths.astype(np.int64)
        store._ends = np.cumsum(store.lengths)
        store._tokens, store._weights = tokens.astype(np.int32), weights.astype(np.float32)
        return store

    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all tokens and all target weights, end to end."""
        return self._tokens, self._weights

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_tokens(self) -> int:
        """All tokens of all sequences."""
        return len(self._tokens)

    @property
    def num_trained(self) -> int:
        """All targets of all sequences."""
        return int(np.count_nonzero(self._weights))

    def longest_answer(self) -> int:
        """The longest unbroken run of trained tokens."""
        padded_with_zero = np.concatenate([[0], (self._weights > 0).astype(np.int8), [0]])
        borders = np.flatnonzero(np.diff(padded_with_zero))
        return int((borders[1::2] - borders[::2]).max(initial=0))

    def digest(self) -> bytes:
        """Bytes that change with any token, weight or border."""
        return self._tokens.tobytes() + self._weights.tobytes() + self.lengths.tobytes()

    @cached_property
    def kin(self) -> np.ndarray:
        """A number for each sequence, equal for those of one row."""
        return np.unique(np.array(self.rows, dtype=str), return_inverse=True)[1].reshape(-1)

    def kin_in(self, layout: Layout) -> np.ndarray | None:
        """The numbers of sequences that belong into one step, where what they share is computed once."""
        return self.kin if layout in TREES else None

    def tokens(self, index: int) -> np.ndarray:
        """The token ids of one sequence."""
        return self._tokens[self._ends[index] - self.lengths[index] : self._ends[index]]

    def weights(self, index: int) -> np.ndarray:
        """The target weights of one sequence."""
        return self._weights[self._ends[index] - self.lengths[index] : self._ends[index]]


def steps_of_epoch(
    lengths: np.ndarray, batch_tokens: int, seed: int, epoch: int, kin: np.ndarray | None = None
) -> list[np.ndarray]:
    """Deal one epoch's sequences, in the order drawn from (seed, epoch), into optimizer steps.

    A step takes sequences until it holds `batch_tokens` tokens; the last one takes what is left,
    or is joined to the one before it when it would hold less than half a step. Sequences of one number
    in `kin` stand together, so that a step's tree can share what they have in common.
    """
    order = generator(seed, "order", epoch).permutation(len(lengths))
    if kin is not None:
        order = _together(order, kin)
    step_of = (np.cumsum(lengths[order]) - 1) // batch_tokens
    steps = np.split(order, np.flatnonzero(np.diff(step_of)) + 1)
    if len(steps) > 1 and lengths[steps[-1]].sum() < batch_tokens / 2:
        steps[-2:] = [np.concatenate(steps[-2:])]
    return steps


def _together(order: np.ndarray, kin: np.ndarray) -> np.ndarray:
    """Bring the sequences of every number to the place in `order` of the first of them."""
    rank = np.argsort(order)
    first = np.full(int(kin.max(initial=-1)) + 1, len(order))
    np.minimum.at(first, kin, rank)
    return np.lexsort((rank, first[kin]))


def micro_batches(store: SequenceStore, indices: np.ndarray, micro_tokens: int, layout: Layout) -> Iterator[Batch]:
    """Cut one step into batches of at most `micro_tokens` positions, padding included.

    Rows come longest first, which pads least; in trees by their tokens, which shares most.
    """
    if layout in TREES:
        rows = indices[tree.in_tree_order([store.tokens(index) for index in indices])]
        for cut in _tree_cuts([store.tokens(index) for index in rows], micro_tokens, layout):
            yield as_tree(store, rows[cut], layout)
        return
    by_length = indices[np.argsort(store.lengths[indices], kind="stable")[::-1]]
    lay = packed if layout == "packed" else padded
    for cut in _cuts(store.lengths[by_length], micro_tokens, layout):
        yield lay(store, by_length[cut])


def heaviest(lengths: np.ndarray, micro_tokens: int, layout: Layout, longest_kept: int) -> tuple[int, int, int]:
    """Return the most positions of one micro-batch of a step, the most squares of its rows' places, and the most positions behind the first one.

    Rows of more than `longest_kept` tokens do not count to the squares, which are what attention keeps of its scores.
    """
    in_order = np.sort(lengths)[::-1]
    places = _place(in_order) if layout == "packed" else in_order
    positions = squares = following = 0
    for cut in _cuts(in_order, micro_tokens, layout):
        own = places[cut] if layout == "packed" else np.full_like(places[cut], places[cut.start])
        kept = own[own <= longest_kept]
        positions, squares = max(positions, int(own.sum())), max(squares, int((kept * kept).sum()))
        if cut.start:
            following = max(following, int(own.sum()))
    return positions, squares, following


def padded(store: SequenceStore, indices: Sequence[int] | np.ndarray) -> Batch:
    """Lay sequences side by side, padded on the right to the longest."""
    lengths = store.lengths[np.asarray(indices)]
    return _lay(store, indices, np.full_like(lengths, lengths.max()), "padded")


def packed(store: SequenceStore, indices: Sequence[int] | np.ndarray) -> Batch:
    """Lay sequences one behind another in a single row, each padded on the right to a multiple of `PLACE`."""
    return _lay(store, indices, _place(store.lengths[np.asarray(indices)]), "packed")


def as_tree(store: SequenceStore, indices: Sequence[int] | np.ndarray, layout: Layout = "tree") -> Batch:
    """Lay sequences out as a token tree, in which what they begin with in common stands once."""
    own = np.asarray(indices)
    indices = own[tree.in_tree_order([store.tokens(index) for index in own])]
    rows = [store.tokens(index) for index in indices]
    grown = tree.grow(rows, multiple=PLACE, least_shared=_LEAST_SHARED[layout])
    trained = tree.targets(grown, rows, [store.weights(index) for index in indices])
    return Batch(
        tokens_BL=grown.tokens_N[None], position_BL=grown.position_N[None],
        lengths=grown.lengths, places=tuple(segment.place for segment in grown.segments),
        index_T=trained.index_T, target_T=trained.target_T, weight_T=trained.weight_T,
        rows=tuple(store.rows[index] for index in indices), layout=layout, num_trained=trained.num_of_rows, tree=grown,
    )  # fmt: skip


def _tree_cuts(rows: Sequence[np.ndarray], micro_tokens: int, layout: Layout) -> Iterator[slice]:
    """Yield the rows of each tree, from rows in tree order."""
    least = _LEAST_SHARED[layout]
    added = tree.most_positions(rows, multiple=PLACE, least_shared=least)
    alone = _place(np.array([len(row) for row in rows]))
    start, positions = 0, 0
    for row in range(len(rows)):
        positions += int(added[row])
        if row > start and positions > micro_tokens:
            yield slice(start, row)
            start, positions = row, int(alone[row])
        elif row == start:
            positions = int(alone[row])
    yield slice(start, len(rows))


def _cuts(lengths: np.ndarray, micro_tokens: int, layout: Layout) -> Iterator[slice]:
    """Yield the rows of each micro-batch, in a step whose rows come longest first."""
    ends = np.cumsum(_place(lengths))
    start = 0
    while start < len(lengths):
        if layout == "packed":
            before = ends[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(ends, before + micro_tokens, side="right")))
        else:
            end = min(len(lengths), start + max(1, micro_tokens // int(lengths[start])))
        yield slice(start, end)
        start = end


def _place(lengths: np.ndarray) -> np.ndarray:
    return -(-lengths // PLACE) * PLACE


def _lay(store: SequenceStore, indices: Sequence[int] | np.ndarray, places: np.ndarray, layout: Layout) -> Batch:
    tokens = np.zeros(places.sum(), dtype=np.int64)
    position = np.zeros_like(tokens)
    index, target, weight = [], [], []
    for sequence, start in zip(indices, np.cumsum(places) - places, strict=True):
        ids, weights = store.tokens(sequence), store.weights(sequence)
        tokens[start : start + len(ids)] = ids
        position[start : start + len(ids)] = np.arange(len(ids))
        trained = np.flatnonzero(weights)
        index.append(start + trained - 1)
        target.append(ids[trained])
        weight.append(weights[trained])
    num_rows = len(places) if layout == "padded" else 1
    return Batch(
        tokens_BL=tokens.reshape(num_rows, -1),
        position_BL=position.reshape(num_rows, -1),
        lengths=tuple(store.lengths[np.asarray(indices)].tolist()),
        places=tuple(places.tolist()),
        index_T=np.concatenate(index).astype(np.int64),
        target_T=np.concatenate(target).astype(np.int64),
        weight_T=np.concatenate(weight).astype(np.float32),
        rows=tuple(store.rows[sequence] for sequence in indices),
        layout=layout,
        num_trained=sum(map(len, index)),
    )
