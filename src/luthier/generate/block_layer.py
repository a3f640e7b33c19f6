"""One layer's keys and values as two blocks of memory, with a line a row and a column a token; what it is to a model is a cache's layer.

Shapes: L lines, H key-value heads, C columns, E channels of a head.
"""

from typing import Protocol

import torch
from transformers.cache_utils import CacheLayerMixin


class Holder(Protocol):
    """Who says how large the blocks are."""

    lines: int
    columns: int


class BlockLayer(CacheLayerMixin):
    """Blocks L x H x C x E that are made when the first states come."""

    is_sliding = False

    def __init__(self, holder: Holder) -> None:
        super().__init__()
        self._holder = holder

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the blocks; zeros, since a hidden value that is no number would still spoil a sum."""
        lines, columns = self._holder.lines, self._holder.columns
        self.keys, self.values = (
            states.new_zeros(lines, states.shape[1], columns, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def blocks_for(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the blocks that these states are written into."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def get_max_length(self) -> int:
        """Return -1: the block grows."""
        return -1

    def resize(self, lines: int, columns: int, *, kept: int) -> None:
        """Move the first `kept` columns into blocks of another size."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = (_resized(old, lines, columns, kept) for old in (self.keys, self.values))


def _resized(old_LHCE: torch.Tensor, lines: int, columns: int, kept: int) -> torch.Tensor:
    new_LHCE = old_LHCE.new_zeros(lines, old_LHCE.shape[1], columns, old_LHCE.shape[3])
    same_LHCE = old_LHCE[:lines, :, : min(kept, columns)]
    new_LHCE[: same_LHCE.shape[0], :, : same_LHCE.shape[2]] = same_LHCE
    return new_LHCE
