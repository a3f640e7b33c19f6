"""A token tree through the model's own cache: the universal path, and what the fast one is measured against.

A segment that branches runs once, with gradients, into a cache; the cache is repeated over the
branches, and the branches that end rows run as batches, padded on the right. Windows, sinks, recurrent and
convolution layers are computed by the model's own code. A segment that branches again runs alone, because
padding would get into the state that it hands on.

Shapes: N positions of the tree, B branches side by side, L positions of each, D width.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from luthier.core.types import Segment

# Branches run side by side while the longest is at most so many times the shortest.
_SPREAD = 1.5


class BranchingCache(DynamicCache):
    """A cache that can be copied for each branch, and whose states are never overwritten.

    transformers writes recurrent and convolution states in place, which the backward pass of the
    branches would find changed; here a state is put in the place of the one before it.
    """

    def update_conv_state(
        self, conv_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **more: object
    ) -> torch.Tensor:
        """Keep the last inputs of a convolution and return them with those before."""
        layer = self.layers[layer_idx]
        assert isinstance(layer, LinearAttentionCacheLayerMixin)
        _renew(layer.conv_states, state_idx)
        return super().update_conv_state(conv_states, layer_idx, state_idx=state_idx, **more)

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **more: object
    ) -> torch.Tensor:
        """Keep the state of a recurrent layer."""
        layer = self.layers[layer_idx]
        assert isinstance(layer, LinearAttentionCacheLayerMixin)
        _renew(layer.recurrent_states, state_idx)
        return super().update_recurrent_state(recurrent_states, layer_idx, state_idx=state_idx, **more)

    def for_branches(self, number: int) -> "BranchingCache":
        """Return a cache for `number` branches, each going on from this one; this one stays as it is."""
        branched = copy.copy(self)
        branched.layers = [_copied(layer) for layer in self.layers]
        if number > 1:
            branched.reorder_cache(torch.zeros(number, dtype=torch.long))  # pyright: ignore[reportArgumentType]
        return branched


Forward = Callable[[torch.Tensor, torch.Tensor, BranchingCache], torch.Tensor]
"""Tokens and positions, B x L, and the cache of what stands before them, to B x L x D; the cache is grown."""


def run(
    forward: Forward, config: PreTrainedConfig, tokens_N: torch.Tensor, segments: Sequence[Segment]
) -> torch.Tensor:
    """Return what `forward` gives for every position of the tree, N x D; zeros at padding."""
    out_N: list[torch.Tensor | None] = [None] * len(segments)
    caches: dict[int, BranchingCache] = {}
    inner = {segment.parent for segment in segments}
    for numbers in _batches(segments, inner):
        first = segments[numbers[0]]
        root = BranchingCache(config=config) if first.parent < 0 else caches[first.parent]
        cache = root.for_branches(len(numbers))
        longest = max(segments[number].length for number in numbers)
        tokens_BL = torch.stack([_padded(tokens_N, segments[number], longest) for number in numbers])
        position_BL = torch.arange(first.depth, first.depth + longest, device=tokens_N.device).expand_as(tokens_BL)
        for number, result_LD in zip(numbers, forward(tokens_BL, position_BL, cache), strict=True):
            out_N[number] = _placed(result_LD, segments[number])
        if numbers[0] in inner:
            caches[numbers[0]] = cache
    return torch.cat([result for result in out_N if result is not None])


def _batches(segments: Sequence[Segment], inner: set[int]) -> Iterator[list[int]]:
    """Yield segments to run together, each behind its parent: those that branch alone, the others beside siblings alike."""
    batch: list[int] = []
    for number, segment in zip(count(), segments):
        alike = batch and not inner & {number, batch[0]} and segments[batch[0]].parent == segment.parent
        if batch and not (alike and segment.length <= _SPREAD * segments[batch[0]].length):
            yield batch
            batch = []
        batch.append(number)
    yield batch


def _padded(tokens_N: torch.Tensor, segment: Segment, length: int) -> torch.Tensor:
    own = tokens_N[segment.start : segment.start + segment.length]
    return torch.nn.functional.pad(own, (0, length - segment.length))


def _placed(result_LD: torch.Tensor, segment: Segment) -> torch.Tensor:
    return torch.nn.functional.pad(result_LD[: segment.length], (0, 0, 0, segment.place - segment.length))


def _renew(states: dict[int, torch.Tensor | None], index: int) -> None:
    state = states[index]
    if state is not None:
        states[index] = state.clone()


def _copied(layer: object) -> object:
    """Copy a cache layer and its tables of states, not the tensors."""
    copied = copy.copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            setattr(copied, name, dict(value))
    return copied
