"""Attention along a token tree: every token sees the segments that lead to its own, and its own up to itself.

Siblings of like places are taken together, the shorter ones filled up: each meets the keys of their common ancestors and its own in
one product of a batch. What the tree's mask would hide is hardly computed, so sixteen branches of 58 tokens behind a prefix of 150
cost 16 x 58 x 208 scores instead of 1,078 x 1,078. Query heads that share a key head are rows of the same product; no key is repeated for
them. The backward pass adds the gradients of shared keys up in float32. `reference.py` is the truth that it equals.

Shapes: H query heads, K key heads, G = H / K, N positions of the tree, E channels of a head; for one
block n siblings, L positions of the longest, P positions of their ancestors, S = P + L, M = K x n, R = L x G.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
from torch.nn.functional import softmax

from luthier.core.types import Segment

# Longer segments go in pieces, each of which sees those before it: half of a square of scores is hidden.
PIECE = 512
# Scores over more keys than this are computed again in the backward pass instead of kept.
MOST_KEPT = 640
# Siblings are taken together while filling them up adds at most this share of scores: another block costs as much in calls.
_MOST_FILLING = 0.1


class Block(NamedTuple):
    """Siblings one behind another from `start`, as runs of equal places: (number of siblings, positions of each).

    `path` are the spans of their ancestors' tokens from the root on, `depth` tokens together.
    """

    start: int
    runs: tuple[tuple[int, int], ...]
    depth: int
    path: tuple[tuple[int, int], ...]

    @property
    def number(self) -> int:
        """How many siblings there are."""
        return sum(number for number, _ in self.runs)

    @property
    def place(self) -> int:
        """The positions of the longest."""
        return max(place for _, place in self.runs)

    @property
    def num_scores(self) -> int:
        """The scores of one head that are computed, hidden ones and those of filled places included."""
        return self.number * self.place * (self.depth + self.place)

    @property
    def kept(self) -> bool:
        """Whether the shares of attention are kept for the backward pass."""
        return self.depth + self.place <= MOST_KEPT


Blocks = tuple[Block, ...]


def blocks(segments: Sequence[Segment]) -> Blocks:
    """Group a tree's segments into blocks, which cover its positions in order."""
    paths: list[tuple[tuple[int, int], ...]] = []
    for segment in segments:
        above = paths[segment.parent] if segment.parent >= 0 else ()
        paths.append((*above, (segment.start, segment.start + segment.length)))
    out: list[Block] = []
    for (parent, _), siblings in groupby(segments, key=lambda segment: (segment.parent, segment.place > PIECE)):
        path = paths[parent] if parent >= 0 else ()
        for together in _alike(list(siblings)):
            if together[0].place > PIECE:
                out += _pieces(together[0], path)
            else:
                runs = [(len(list(same)), place) for place, same in groupby(segment.place for segment in together)]
                out.append(Block(together[0].start, tuple(runs), together[0].depth, path))
    return tuple(out)


def tree_attention(
    query_HNE: torch.Tensor,
    key_KNE: torch.Tensor,
    value_KNE: torch.Tensor,
    blocks: Blocks,
    scale: float,
    window: int | None = None,
) -> torch.Tensor:
    """Return causal softmax attention along the tree, H x N x E; with a window, of the last `window` tokens.

    Scores have the inputs' type, as in eager attention.
    """
    return _TreeAttention.apply(query_HNE, key_KNE, value_KNE, blocks, scale, window)


def _alike(siblings: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Deal neighbours into groups that are worth filling up; the long ones each stand alone."""
    group: list[Segment] = []
    real = longest = 0
    for segment in siblings:
        scores = segment.place * (segment.depth + segment.place)
        longest = max(longest, segment.place)
        filled = (len(group) + 1) * longest * (segment.depth + longest)
        if group and (longest > PIECE or filled > (1 + _MOST_FILLING) * (real + scores)):
            yield group
            group, real, longest = [], 0, segment.place
        group.append(segment)
        real += scores
    yield group


def _pieces(segment: Segment, path: tuple[tuple[int, int], ...]) -> Iterator[Block]:
    for offset in range(0, segment.place, PIECE):
        before = ((segment.start, segment.start + offset),) if offset else ()
        length = min(PIECE, segment.place - offset)
        yield Block(segment.start + offset, ((1, length),), segment.depth + offset, path + before)


class _Seen(NamedTuple):
    """What a block's queries see of their ancestors: spans of positions, and how many tokens before them are out of the window.

    `filling` zeros behind them make the rows of scores a multiple of 16 long, which the vector units like.
    """

    spans: tuple[tuple[int, int], ...]
    skipped: int
    num_path: int
    filling: int


def _seen(block: Block, window: int | None) -> _Seen:
    skipped = max(0, block.depth - window + 1) if window is not None else 0
    spans, begin = [], 0
    for start, stop in block.path:
        first = start + max(0, skipped - begin)
        if first < stop:
            spans.append((first, stop))
        begin += stop - start
    num_path = block.depth - skipped
    return _Seen(tuple(spans), skipped, num_path, -(num_path + block.place) % 16 if num_path else 0)


@lru_cache(maxsize=32)  # all layers of a step ask for the same few
def _hidden(block: Block, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return what is added to the scores, L x S: the lowest number where a query does not look, else 0."""
    seen = _seen(block, window)
    query_L1 = torch.arange(block.depth, block.depth + block.place, device=device)[:, None]
    own_L = query_L1[:, 0]
    filled = own_L.new_full((seen.filling,), block.depth + block.place)
    key_S = torch.cat([torch.arange(seen.skipped, block.depth, device=device), filled, own_L])
    out_of_sight = key_S > query_L1
    if window is not None:
        out_of_sight |= key_S <= query_L1 - window
    return torch.zeros(out_of_sight.shape, dtype=dtype, device=device).masked_fill_(
        out_of_sight, torch.finfo(dtype).min
    )


def _taken(x_HNE: torch.Tensor, block: Block, num_key_heads: int) -> torch.Tensor:
    """Return a block's queries, or keys, or their gradients, as K x n x L x G x E; zeros where a place is filled up."""
    shape = (num_key_heads, block.number, block.place, len(x_HNE) // num_key_heads, x_HNE.shape[-1])
    out = x_HNE.new_empty(shape) if len(block.runs) == 1 else x_HNE.new_zeros(shape)
    for ours, theirs in _runs(out, x_HNE, block):
        ours.copy_(theirs)
    return out


def _runs(x_KnLGE: torch.Tensor, tree_HNE: torch.Tensor, block: Block) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield, for each run of equal places, where its siblings stand in a block and where in the tree, in one shape."""
    start, first = block.start, 0
    heads_KGNE = tree_HNE.unflatten(0, (len(x_KnLGE), -1))
    for number, place in block.runs:
        stop = start + number * place
        theirs = heads_KGNE[:, :, start:stop].unflatten(2, (number, place)).permute(0, 2, 3, 1, 4)
        yield x_KnLGE[:, first : first + number, :place], theirs
        start, first = stop, first + number


def _all_keys(x_KNE: torch.Tensor, block: Block, seen: _Seen) -> torch.Tensor:
    """Return the keys or values that each sibling may see, its ancestors' and its own, as M x S x E."""
    num_key_heads, _, channels = x_KNE.shape
    before = seen.num_path + seen.filling
    shape = (num_key_heads, block.number, before + block.place, channels)
    out = x_KNE.new_empty(shape) if len(block.runs) == 1 and not seen.filling else x_KNE.new_zeros(shape)
    begin = 0
    for start, stop in seen.spans:
        out[:, :, begin : begin + stop - start] = x_KNE[:, None, start:stop]
        begin += stop - start
    for ours, theirs in _runs(out[:, :, before:].unsqueeze(3), x_KNE, block):
        ours.copy_(theirs)
    return out.flatten(0, 1)


def _collect(into_KNE: torch.Tensor, x_MSE: torch.Tensor, block: Block, seen: _Seen) -> None:
    """Add what a block sends to the keys that it sees to those of the tree; the transpose of `_all_keys`."""
    x_KnSE = x_MSE.unflatten(0, (len(into_KNE), block.number))
    for ours, theirs in _runs(x_KnSE[:, :, seen.num_path + seen.filling :].unsqueeze(3), into_KNE, block):
        theirs += ours
    if seen.spans:
        path_KPE = x_KnSE[:, :, : seen.num_path].sum(dim=1, dtype=torch.float32)
        begin = 0
        for start, stop in seen.spans:
            into_KNE[:, start:stop] += path_KPE[:, begin : begin + stop - start]
            begin += stop - start


def _shares(
    query_MRE: torch.Tensor, key_MSE: torch.Tensor, block: Block, seen: _Seen, window: int | None
) -> torch.Tensor:
    score_MRS = query_MRE @ key_MSE.transpose(1, 2)
    hidden_LS = _hidden(block, window, score_MRS.dtype, score_MRS.device)
    first = 0 if window is not None else seen.num_path  # all of the ancestors' tokens are seen, but by a window
    score_MRS.unflatten(1, (block.place, -1))[..., first:].add_(hidden_LS[:, None, first:])
    return softmax(score_MRS, dim=-1)


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query_HNE, key_KNE, value_KNE, blocks, scale, window):
        num_key_heads = len(key_KNE)
        out_HNE = torch.empty_like(query_HNE)
        kept = []
        for block in blocks:
            seen = _seen(block, window)
            query_KnLGE = _taken(query_HNE, block, num_key_heads).mul_(scale)
            query_MRE = query_KnLGE.flatten(2, 3).flatten(0, 1)
            share_MRS = _shares(query_MRE, _all_keys(key_KNE, block, seen), block, seen, window)
            out_KnLGE = (share_MRS @ _all_keys(value_KNE, block, seen)).view_as(query_KnLGE)
            for ours, theirs in _runs(out_KnLGE, out_HNE, block):
                theirs.copy_(ours)
            kept += [query_MRE, share_MRS if block.kept else None]
        ctx.save_for_backward(key_KNE, value_KNE, *kept)
        ctx.blocks, ctx.scale, ctx.window = blocks, scale, window
        return out_HNE

    @staticmethod
    def backward(ctx, grad_HNE):
        key_KNE, value_KNE, *kept = ctx.saved_tensors
        num_key_heads = len(key_KNE)
        query_grad_HNE = torch.empty_like(grad_HNE)
        key_grad_KNE, value_grad_KNE = (torch.zeros_like(x, dtype=torch.float32) for x in (key_KNE, value_KNE))
        for block, query_MRE, share_MRS in zip(ctx.blocks, kept[::2], kept[1::2], strict=True):
            seen = _seen(block, ctx.window)
            grad_KnLGE = _taken(grad_HNE, block, num_key_heads)
            grad_MRE, key_MSE = grad_KnLGE.view_as(query_MRE), _all_keys(key_KNE, block, seen)
            if share_MRS is None:
                share_MRS = _shares(query_MRE, key_MSE, block, seen, ctx.window)
            _collect(value_grad_KNE, share_MRS.transpose(1, 2) @ grad_MRE, block, seen)
            share_grad_MRS = grad_MRE @ _all_keys(value_KNE, block, seen).transpose(1, 2)
            score_grad_MRS = torch.ops.aten._softmax_backward_data(share_grad_MRS, share_MRS, -1, share_MRS.dtype)
            query_grad_KnLGE = (score_grad_MRS @ key_MSE).mul_(ctx.scale).view_as(grad_KnLGE)
            for ours, theirs in _runs(query_grad_KnLGE, query_grad_HNE, block):
                theirs.copy_(ours)
            _collect(key_grad_KNE, score_grad_MRS.transpose(1, 2) @ query_MRE, block, seen)
        return query_grad_HNE, key_grad_KNE.to(key_KNE.dtype), value_grad_KNE.to(value_KNE.dtype), None, None, None
