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


def attention_behind(
    query_NXE: torch.Tensor,
    own: tuple[torch.Tensor, torch.Tensor],
    rows: Sequence[torch.Tensor],
    beginnings: Sequence[tuple[torch.Tensor, torch.Tensor]],
    scale: float,
) -> torch.Tensor:
    """Return attention of a pass's tokens over what their rows begin with and their own keys, in float64, token by token.

    `own` are blocks L x K x C x E; `rows` are, of each row, its line in them, its first token in the pass, how many it has there, the own
    keys before them, and which of the `beginnings`, keys and values K x P x E, it stands behind, -1 for none.
    """
    out_NXE = torch.zeros(query_NXE.shape, dtype=torch.float64)
    for line, first, count, start, seen in zip(*(numbers_n.tolist() for numbers_n in rows)):
        before = [] if seen < 0 else [beginnings[seen]]
        for token in range(count):
            parts = [*before, tuple(block[line, :, : start + token + 1] for block in own)]
            keys_KSE, values_KSE = (torch.cat([part[place] for part in parts], dim=1).double() for place in (0, 1))
            query_KGE = query_NXE[first + token].double().view(len(keys_KSE), -1, query_NXE.shape[-1])
            share_KGS = torch.softmax(query_KGE @ keys_KSE.transpose(1, 2) * scale, dim=-1)
            out_NXE[first + token] = (share_KGS @ values_KSE).flatten(0, 1)
    return out_NXE


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
