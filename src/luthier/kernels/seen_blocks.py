"""Which squares of a tree's attention are computed, found from its segments without looking at single positions.

FlexAttention skips a square of 128 x 128 positions in which nothing is seen, and leaves the mask out where everything is. torch's
`create_block_mask` finds these squares by making the whole mask of N x N. Here segments are cut at the squares' borders into
pieces: of two pieces the one sees all of the other, nothing, or (where both are the same) what comes before, so that sums
over pairs of pieces say how much of each square is seen. `tests/unit/test_seen_blocks.py` holds them to torch's.

P is the number of pieces, Q of squares along one side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask

from luthier.core.types import Segment

SIDE = 128


@dataclass(frozen=True, eq=False)
class Pieces:
    """Stretches of segments that no border of a square cuts: `size` positions each, of which the first `real` hold tokens.

    `entered` and `left` say when a walk through the tree enters the segment, and when it has left all below; `depth` is
    that of the piece's first position, and `first_Q` are the pieces with which the squares begin.
    """

    segment: np.ndarray
    size: np.ndarray
    real: np.ndarray
    depth: np.ndarray
    entered: np.ndarray
    left: np.ndarray
    first_Q: np.ndarray


def pieces(segments: Sequence[Segment], entered: Sequence[int], left: Sequence[int]) -> Pieces:
    """Cut segments at the borders of squares; `entered` and `left` are each segment's times in the walk."""
    table = np.array([(one.start, one.length, one.depth) for one in segments])
    start, length, depth = table.T
    end = segments[-1].start + segments[-1].place
    cuts = np.union1d(start, np.arange(0, end, SIDE))
    segment = np.searchsorted(start, cuts, side="right") - 1
    into = cuts - start[segment]
    size = np.diff(cuts, append=end)
    return Pieces(
        segment, size, np.clip(length[segment] - into, 0, size), depth[segment] + into,
        np.asarray(entered)[segment], np.asarray(left)[segment], np.flatnonzero(cuts % SIDE == 0),
    )  # fmt: skip


def seen(of: Pieces, window: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return which squares, queries by keys, are seen in part and which wholly; with a window, of the last `window` tokens."""
    same_PP = of.segment[:, None] == of.segment
    above_PP = (of.entered <= of.entered[:, None]) & (of.entered[:, None] < of.left) & ~same_PP
    keys_PP = np.where(above_PP, of.real, of.size * np.tril(same_PP, -1))  # keys of which a piece sees all
    number_PP = of.size[:, None] * keys_PP + np.diag(of.size * (of.size + 1) // 2)
    if window is None:
        number_QQ = _summed(np.add, number_PP, of.first_Q)
        return (number_QQ > 0) & (number_QQ < SIDE**2), number_QQ == SIDE**2
    nearest_PP = of.depth[:, None] - (of.depth + keys_PP - 1)
    any_PP = (keys_PP > 0) & (nearest_PP < window) | np.eye(len(of.size), dtype=bool)
    all_PP = of.depth[:, None] + of.size[:, None] - 1 - of.depth < window
    whole_QQ = (_summed(np.add, number_PP, of.first_Q) == SIDE**2) & _summed(np.logical_and, all_PP, of.first_Q)
    return _summed(np.logical_or, any_PP, of.first_Q) & ~whole_QQ, whole_QQ


def block_mask(of: Pieces, window: int | None, sees: Callable[..., torch.Tensor], device: torch.device) -> BlockMask:
    """Return the squares as FlexAttention takes them; `sees` is asked within those that are seen in part."""
    tables = [table for squares_QQ in seen(of, window) for table in _listed(squares_QQ)]
    on_device = torch.from_numpy(np.concatenate([table.ravel() for table in tables])).to(device)
    parts = on_device.split([table.size for table in tables])
    number, which, whole_number, whole_which = (
        part.reshape(1, 1, *table.shape) for part, table in zip(parts, tables, strict=True)
    )
    size = int(of.size.sum())
    return BlockMask.from_kv_blocks(
        number, which, whole_number, whole_which, BLOCK_SIZE=SIDE, mask_mod=sees, seq_lengths=(size, size)
    )


def _summed(how: np.ufunc, of_PP: np.ndarray, first_Q: np.ndarray) -> np.ndarray:
    return how.reduceat(how.reduceat(of_PP, first_Q, axis=0), first_Q, axis=1)


def _listed(squares_QQ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many squares of each line are meant, and their numbers, followed by those of the others."""
    number_Q = squares_QQ.sum(axis=1, dtype=np.int32)
    return number_Q, np.argsort(~squares_QQ, axis=1, kind="stable").astype(np.int32)
