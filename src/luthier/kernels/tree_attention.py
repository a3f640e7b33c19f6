"""Attention along a token tree: every token sees the segments that lead to its own, and its own up to itself.

Siblings of equal places are taken together: their queries meet the keys of their common ancestors in one
matrix product, and their own keys in a batch of small ones. What the tree's mask would hide is never computed,
so sixteen branches of 58 tokens behind a prefix of 150 cost 16 x 58 x 208 scores instead of
1,078 x 1,078. Query heads that share a key head are rows of the same product; no key is repeated. The backward pass
adds the gradients of shared keys up in float32. `reference.py` is the truth that it equals.

Shapes: H query heads, K key heads, G = H / K, N positions of the tree, E channels of a head; for one
block n siblings, l positions of each, P positions of their ancestors, S = P + l.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch.nn.functional import softmax

from luthier.core.types import Segment

# Longer segments go in pieces, each of which sees those before it: half of a square of scores is hidden.
PIECE = 512
# Scores over more keys than this are computed again in the backward pass instead of kept.
MOST_KEPT = 640


class Block(NamedTuple):
    """Siblings of equal places, one behind another from `start`: `number` of them, `place` positions each.

    `path` are the spans of their ancestors' tokens from the root on, `depth` tokens together.
    """

    start: int
    number: int
    place: int
    depth: int
    path: tuple[tuple[int, int], ...]

    @property
    def stop(self) -> int:
        """The end of the block's positions."""
        return self.start + self.number * self.place

    @property
    def num_scores(self) -> int:
        """The scores of one head, those hidden by causality included."""
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
    for (parent, place), siblings in groupby(segments, key=lambda segment: (segment.parent, segment.place)):
        path = paths[parent] if parent >= 0 else ()
        together = list(siblings)
        if place <= PIECE:
            out.append(Block(together[0].start, len(together), place, together[0].depth, path))
        else:
            out += [piece for segment in together for piece in _pieces(segment, path)]
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


def _pieces(segment: Segment, path: tuple[tuple[int, int], ...]) -> Iterator[Block]:
    for offset in range(0, segment.place, PIECE):
        before = ((segment.start, segment.start + offset),) if offset else ()
        length = min(PIECE, segment.place - offset)
        yield Block(segment.start + offset, 1, length, segment.depth + offset, path + before)


class _Seen(NamedTuple):
    """What a block's queries see of their ancestors: spans of positions, and how many tokens before them are out of the window.

    `filling` zeros behind them make the rows of scores a multiple of 32 long, which the vector units like.
    """

    spans: tuple[tuple[int, int], ...]
    skipped: int
    filling: int


def _seen(block: Block, window: int | None) -> _Seen:
    skipped = max(0, block.depth - window + 1) if window is not None else 0
    spans, begin = [], 0
    for start, stop in block.path:
        first = start + max(0, skipped - begin)
        if first < stop:
            spans.append((first, stop))
        begin += stop - start
    return _Seen(tuple(spans), skipped, -(block.depth - skipped) % 32)


def _hidden(block: Block, seen: _Seen, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """Return what is added to the scores, l x S: the lowest number where a query does not look, else 0."""
    query_l = torch.arange(block.depth, block.depth + block.place, device=like.device)[:, None]
    own_l = query_l[:, 0]
    filled = own_l.new_full((seen.filling,), block.depth + block.place)
    key_S = torch.cat([torch.arange(seen.skipped, block.depth, device=like.device), filled, own_l])
    out_of_sight = key_S > query_l
    if window is not None:
        out_of_sight |= key_S <= query_l - window
    return torch.zeros(out_of_sight.shape, dtype=like.dtype, device=like.device).masked_fill_(
        out_of_sight, torch.finfo(like.dtype).min
    )


def _queries(x_HNE: torch.Tensor, block: Block, num_key_heads: int) -> torch.Tensor:
    """Return a block's queries (or their gradients) as K x n x Gl x E."""
    heads = x_HNE[:, block.start : block.stop].unflatten(0, (num_key_heads, -1))
    return heads.unflatten(2, (block.number, block.place)).transpose(1, 2).flatten(2, 3)


def _own(x_KNE: torch.Tensor, block: Block) -> torch.Tensor:
    """Return a block's own keys or values as K x n x l x E."""
    return x_KNE[:, block.start : block.stop].unflatten(1, (block.number, block.place))


def _path(x_KNE: torch.Tensor, seen: _Seen) -> torch.Tensor:
    """Return the ancestors' keys or values as K x P x E."""
    parts = [x_KNE[:, slice(*span)] for span in seen.spans]
    return torch.cat([*parts, x_KNE.new_zeros(len(x_KNE), seen.filling, x_KNE.shape[-1])], dim=1)


def _meet(query_KnqE: torch.Tensor, key_KNE: torch.Tensor, block: Block, seen: _Seen) -> torch.Tensor:
    """Return the products of a block's queries with all keys that they may see, K x n x Gl x S."""
    own = query_KnqE @ _own(key_KNE, block).transpose(-1, -2)
    if not seen.spans:
        return own
    path = query_KnqE.flatten(1, 2) @ _path(key_KNE, seen).transpose(-1, -2)
    return torch.cat([path.unflatten(1, query_KnqE.shape[1:3]), own], dim=-1)


def _spread(share_KnqS: torch.Tensor, value_KNE: torch.Tensor, block: Block, seen: _Seen) -> torch.Tensor:
    """Return the sums of the values that a block sees, each by its share: K x n x Gl x E."""
    num_path = share_KnqS.shape[-1] - block.place
    out = share_KnqS[..., num_path:] @ _own(value_KNE, block)
    if seen.spans:
        path = share_KnqS[..., :num_path].flatten(1, 2) @ _path(value_KNE, seen)
        out += path.view_as(out)
    return out


def _collect(into_KNE: torch.Tensor, share_KnqS: torch.Tensor, x_KnqE: torch.Tensor, block: Block, seen: _Seen) -> None:
    """Add to each key what the block's queries send to it, each by its share; the transpose of `_spread`."""
    num_path = share_KnqS.shape[-1] - block.place
    _own(into_KNE, block).add_(share_KnqS[..., num_path:].transpose(-1, -2) @ x_KnqE)
    if seen.spans:
        path_KPE = (x_KnqE.flatten(1, 2).transpose(-1, -2) @ share_KnqS[..., :num_path].flatten(1, 2)).transpose(-1, -2)
        begin = 0
        for start, stop in seen.spans:
            into_KNE[:, start:stop] += path_KPE[:, begin : begin + stop - start]
            begin += stop - start


def _write(out_HNE: torch.Tensor, x_KnqE: torch.Tensor, block: Block, num_key_heads: int) -> None:
    """Put a block's results back where its queries were."""
    heads = out_HNE[:, block.start : block.stop].unflatten(0, (num_key_heads, -1))
    places = heads.unflatten(2, (block.number, block.place)).transpose(1, 2)
    places.copy_(x_KnqE.unflatten(2, places.shape[2:4]))


def _shares(
    query_KnqE: torch.Tensor, key_KNE: torch.Tensor, block: Block, scale: float, window: int | None
) -> torch.Tensor:
    seen = _seen(block, window)
    score_KnqS = _meet(query_KnqE, key_KNE, block, seen).mul_(scale)
    score_KnqS.unflatten(2, (-1, block.place)).add_(_hidden(block, seen, window, score_KnqS))
    return softmax(score_KnqS, dim=-1)


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query_HNE, key_KNE, value_KNE, blocks, scale, window):
        num_key_heads = len(key_KNE)
        out_HNE = torch.empty_like(query_HNE)
        kept = []
        for block in blocks:
            share_KnqS = _shares(_queries(query_HNE, block, num_key_heads), key_KNE, block, scale, window)
            kept.append(share_KnqS if block.kept else None)
            _write(out_HNE, _spread(share_KnqS, value_KNE, block, _seen(block, window)), block, num_key_heads)
        ctx.save_for_backward(query_HNE, key_KNE, value_KNE, *kept)
        ctx.blocks, ctx.scale, ctx.window = blocks, scale, window
        return out_HNE

    @staticmethod
    def backward(ctx, grad_HNE):
        query_HNE, key_KNE, value_KNE, *kept = ctx.saved_tensors
        num_key_heads = len(key_KNE)
        query_grad_HNE = torch.empty_like(query_HNE)
        key_grad_KNE, value_grad_KNE = (torch.zeros_like(x, dtype=torch.float32) for x in (key_KNE, value_KNE))
        for block, share_KnqS in zip(ctx.blocks, kept, strict=True):
            seen = _seen(block, ctx.window)
            query_KnqE, grad_KnqE = (_queries(x, block, num_key_heads) for x in (query_HNE, grad_HNE))
            if share_KnqS is None:
                share_KnqS = _shares(query_KnqE, key_KNE, block, ctx.scale, ctx.window)
            _collect(value_grad_KNE, share_KnqS, grad_KnqE, block, seen)
            share_grad_KnqS = _meet(grad_KnqE, value_KNE, block, seen)
            score_grad_KnqS = torch.ops.aten._softmax_backward_data(share_grad_KnqS, share_KnqS, -1, share_KnqS.dtype)
            score_grad_KnqS.mul_(ctx.scale)
            _write(query_grad_HNE, _spread(score_grad_KnqS, key_KNE, block, seen), block, num_key_heads)
            _collect(key_grad_KNE, score_grad_KnqS, query_KnqE, block, seen)
        return query_grad_HNE, key_grad_KNE.to(key_KNE.dtype), value_grad_KNE.to(value_KNE.dtype), None, None, None
