"""Attention on a GPU: packed rows through FlashAttention's kernels for rows of unequal length, trees through FlexAttention.

Both come with torch. A tree is told to FlexAttention (Dong et al. 2024, arXiv 2412.05496) as three numbers a
position: when a walk through the tree, children behind their parent, enters the position's segment, when it has left
all that hangs below it, and how far the position is from the root. A position sees another if the other's segment is
on its path, which these numbers tell by two comparisons, and if it comes no earlier in the row. Blocks of 128 x 128 in which nothing is
seen are never computed (`seen_blocks.py`). `reference.py` is the truth that it equals.

Shapes: H query heads, K key heads, N positions of the row, E channels of a head.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from luthier.core.types import Segment
from luthier.kernels.seen_blocks import Pieces, block_mask, pieces

HALVES = (torch.float16, torch.bfloat16)
_OWN_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters


@dataclass(frozen=True, eq=False)
class Rows:
    """Packed rows on a device: the positions that each takes, where each begins, with the end of the last behind them, and the longest."""

    places: tuple[int, ...]
    borders: torch.Tensor
    longest: int


@dataclass(frozen=True, eq=False)
class Branches:
    """A tree on a device, as the three numbers of each position, and in pieces; its masks are made once for all layers."""

    entered_N: torch.Tensor
    left_N: torch.Tensor
    depth_N: torch.Tensor
    pieces: Pieces
    masks: dict[int | None, BlockMask] = field(default_factory=dict)

    def sees(self, window: int | None = None) -> Callable[..., torch.Tensor]:
        """Return the mask as FlexAttention asks for it: whether a query position sees a key position."""
        entered_N, left_N, depth_N = self.entered_N, self.left_N, self.depth_N

        def on_path(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            walk = entered_N[query]
            return (entered_N[key] <= walk) & (walk < left_N[key]) & (key <= query)

        def in_window(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            return on_path(batch, head, query, key) & (depth_N[query] - depth_N[key] < (window or 0))

        return in_window if window else on_path

    def mask(self, window: int | None) -> BlockMask:
        """Return which blocks are computed, wholly or in part."""
        if window not in self.masks:
            self.masks[window] = block_mask(self.pieces, window, self.sees(window), self.entered_N.device)
        return self.masks[window]


def rows(places: Sequence[int], device: torch.device) -> Rows:
    """Return packed rows that take so many positions each."""
    borders = np.cumsum([0, *places]).astype(np.int32)
    return Rows(tuple(places), torch.from_numpy(borders).to(device), max(places))


def branches(segments: Sequence[Segment], device: torch.device) -> Branches:
    """Return a tree of these segments."""
    entered, left = _walk([segment.parent for segment in segments])
    numbers = np.zeros((3, segments[-1].start + segments[-1].place), dtype=np.int32)
    for segment, enters, leaves in zip(segments, entered, left, strict=True):
        own = slice(segment.start, segment.start + segment.place)
        numbers[0, own], numbers[1, own] = enters, leaves
        numbers[1, segment.start + segment.length : own.stop] = enters + 1  # padding is on no path but its own
        numbers[2, own] = np.arange(segment.depth, segment.depth + segment.place)
    entered_N, left_N, depth_N = torch.from_numpy(numbers).to(device)
    return Branches(entered_N, left_N, depth_N, pieces(segments, entered, left))


def along_tree(
    query_HNE: torch.Tensor,
    key_KNE: torch.Tensor,
    value_KNE: torch.Tensor,
    where: Branches,
    scale: float,
    window: int | None = None,
) -> torch.Tensor:
    """Return causal softmax attention along the tree, H x N x E; with a window, of the last `window` tokens."""
    query, key, value = (x[None] for x in (query_HNE, key_KNE, value_KNE))
    flex = _compiled_flex() if query.is_cuda else flex_attention
    grouped = len(query_HNE) != len(key_KNE)
    out = flex(query, key, value, block_mask=where.mask(window), scale=scale, enable_gqa=grouped)
    assert isinstance(out, torch.Tensor)
    return out[0]


def within_rows(
    query_HNE: torch.Tensor, key_KNE: torch.Tensor, value_KNE: torch.Tensor, where: Rows, scale: float
) -> torch.Tensor:
    """Return causal softmax attention within each row, N x H x E; inputs are of one of the `HALVES`."""
    grouped: dict[str, Any] = {"enable_gqa": len(query_HNE) != len(key_KNE)} if _OWN_GROUPS else {}
    if not _OWN_GROUPS:
        key_KNE, value_KNE = (x.repeat_interleave(len(query_HNE) // len(x), dim=0) for x in (key_KNE, value_KNE))
    query_NHE, key_NKE, value_NKE = (x.transpose(0, 1) for x in (query_HNE, key_KNE, value_KNE))
    out_NHE = varlen_attn(
        query_NHE, key_NKE, value_NKE, where.borders, where.borders, where.longest, where.longest,
        scale=scale, window_size=(-1, 0), **grouped,
    )  # fmt: skip
    assert isinstance(out_NHE, torch.Tensor)
    return out_NHE


@cache
def _compiled_flex() -> Callable[..., object]:
    return torch.compile(flex_attention, dynamic=True)


def _walk(parents: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return when a depth-first walk enters each node, and when it has left all below it."""
    below = [1] * len(parents)
    for node in range(len(parents) - 1, -1, -1):
        if parents[node] >= 0:
            below[parents[node]] += below[node]
    entered, free, roots_so_far = [0] * len(parents), [0] * len(parents), 0
    for node, parent in enumerate(parents):
        if parent >= 0:
            entered[node] = free[parent]
            free[parent] += below[node]
        else:
            entered[node] = roots_so_far
            roots_so_far += below[node]
        free[node] = entered[node] + 1
    return entered, [start + size for start, size in zip(entered, below, strict=True)]
