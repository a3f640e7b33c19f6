"""Attention in training through the compiled functions: along a token tree, or within packed rows, with its gradients.

It makes scores a tile at a time and keeps none, neither in the forward nor in the backward pass (Dao et al. 2022, arXiv 2205.14135); what is kept is the
result and one number for each query. In bfloat16 it rounds less than products of torch do and takes less time; bench/attention.py has the figures.
`tree_attention.py` and `attention.py` compute the same where there are no compiled functions, and `reference.py` is the truth for all.

Shapes: H query heads, K key heads, N positions, E channels of a head.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch.autograd.function import once_differentiable

from luthier.kernels.native import Branches, Native, for_attention
from luthier.kernels.tree_attention import Blocks

Span = tuple[int, int]


def attends(channels: int, dtype: torch.dtype) -> bool:
    """Whether rows and trees attend through these functions on a CPU, and so keep no scores; where layers have no dropout in attention."""
    return for_attention(torch.empty(0, channels, dtype=dtype)) is not None


def library_for(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Native | None:
    """Return the library where it attends with such tensors, ... x E."""
    alike = query.dtype == key.dtype == value.dtype and key.shape == value.shape and query.shape[-1] == key.shape[-1]
    return for_attention(query) if alike else None


@lru_cache(maxsize=32)  # all layers of a step ask for the same
def branches_of(blocks: Blocks) -> Branches:
    """Return a tree's segments and what stands before each."""
    return _listed([
        (place, block.path) for block in blocks for number, place in block.runs for _ in range(number)
    ])  # fmt: skip


@lru_cache(maxsize=32)
def rows_of(runs: tuple[tuple[int, int], ...]) -> Branches:
    """Return packed rows, runs of equal places, as segments that have nothing before them."""
    return _listed([(place, ()) for number, place in runs for _ in range(number)])


def attend(
    library: Native,
    query_HNE: torch.Tensor,
    key_KNE: torch.Tensor,
    value_KNE: torch.Tensor,
    branches: Branches,
    scale: float,
    window: int | None = None,
) -> torch.Tensor:
    """Return causal softmax attention within the segments and over what stands before them, H x N x E; with a window, of the last `window` tokens."""
    return _Attention.apply(library, query_HNE, key_KNE, value_KNE, branches, scale, window)


def _listed(segments: Sequence[tuple[int, tuple[Span, ...]]]) -> Branches:
    numbers, spans, start = [], [], 0
    for place, path in segments:
        numbers.append((start, place, len(spans)))
        spans += path
        start += place
    numbers.append((start, 0, len(spans)))
    return Branches(torch.tensor(numbers), torch.tensor(spans, dtype=torch.long).reshape(-1, 2))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, library, query_HNE, key_KNE, value_KNE, branches, scale, window):
        out_HNE, log_total_HN = library.along(query_HNE, key_KNE, value_KNE, branches, scale, window)
        ctx.save_for_backward(query_HNE, key_KNE, value_KNE, out_HNE, log_total_HN)
        ctx.library, ctx.given = library, (branches, scale, window)
        return out_HNE

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_HNE):
        return None, *ctx.library.along_backward(grad_HNE, *ctx.saved_tensors, *ctx.given), None, None, None
