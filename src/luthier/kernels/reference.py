"""What the fast kernels must equal, in plain torch.

Shapes: N hidden states, T targets, D width, V vocabulary; H query heads, K key heads, E channels of a head.
"""

from collections.abc import Sequence

import torch

from luthier.core.types import Segment


def target_logp(
    hidden_ND: torch.Tensor,
    index_T: torch.Tensor,
    target_T: torch.Tensor,
    weight_VD: torch.Tensor,
    divisor: float = 1.0,
    cap: float | None = None,
) -> torch.Tensor:
    """Return the log-probability of each target token, float32 of shape T; logits are divided, then squashed below `cap`."""
    logits_TV = (hidden_ND[index_T] @ weight_VD.t()).float() / divisor
    if cap is not None:
        logits_TV = cap * torch.tanh(logits_TV / cap)
    return torch.log_softmax(logits_TV, dim=-1).gather(1, target_T[:, None])[:, 0]


def weighted_nll(
    hidden_ND: torch.Tensor,
    index_T: torch.Tensor,
    target_T: torch.Tensor,
    weight_T: torch.Tensor,
    weight_VD: torch.Tensor,
    divisor: float = 1.0,
    cap: float | None = None,
) -> torch.Tensor:
    """Return the sum over targets of weight times negative log-probability, a float32 scalar."""
    return -(target_logp(hidden_ND, index_T, target_T, weight_VD, divisor, cap) * weight_T).sum()


def tree_attention(
    query_HNE: torch.Tensor,
    key_KNE: torch.Tensor,
    value_KNE: torch.Tensor,
    segments: Sequence[Segment],
    scale: float,
    window: int | None = None,
) -> torch.Tensor:
    """Return attention along a tree through one mask over all its positions, H x N x E."""
    key_HNE, value_HNE = (x.repeat_interleave(len(query_HNE) // len(x), dim=0) for x in (key_KNE, value_KNE))
    score_HNN = query_HNE @ key_HNE.transpose(1, 2) * scale
    return torch.softmax(score_HNN.masked_fill(~visible(segments, window), float("-inf")), dim=-1) @ value_HNE


def visible(segments: Sequence[Segment], window: int | None = None) -> torch.Tensor:
    """Return which positions each position of a tree sees, N x N: its ancestors' tokens and its own up to itself."""
    size = segments[-1].start + segments[-1].place
    seen_NN = torch.zeros(size, size, dtype=torch.bool)
    depth_N = torch.cat([torch.arange(s.depth, s.depth + s.place) for s in segments])
    for segment in segments:
        rows = slice(segment.start, segment.start + segment.place)
        seen_NN[rows, rows] = torch.ones(segment.place, segment.place).tril().bool()
        parent = segment.parent
        while parent >= 0:
            above = segments[parent]
            seen_NN[rows, above.start : above.start + above.length] = True
            parent = above.parent
    return seen_NN if window is None else seen_NN & (depth_N[:, None] - depth_N[None] < window)


def adapted_linear(
    x_D: torch.Tensor, weight_OD: torch.Tensor, down_RD: torch.Tensor, up_OR: torch.Tensor, scale: float
) -> torch.Tensor:
    """Return a linear layer and its low-rank update (Hu et al. 2021, arXiv 2106.09685) as their definition says."""
    return x_D @ weight_OD.t() + scale * ((x_D @ down_RD.t()) @ up_OR.t())
