"""Keys and values that grow in place.

transformers' own cache copies everything it holds at every token. Here a layer keeps a block with room for the tokens
to come, writes each where it belongs and shows what is filled, so that a step costs what it adds.
"""

from collections.abc import Sequence
from typing import cast

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from luthier.kernels.decode_attention import filled_part

_ROOM = 64


class GrowingLayer(DynamicLayer):
    """One layer that attends to everything; `keys` and `values` are views of what is filled."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[torch.Tensor] = []
        self._filled = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append rows x heads x tokens x channels; return all that is filled."""
        states, start = (key_states, value_states), self._filled
        end = start + key_states.shape[2]
        if not self._blocks or self._blocks[0].shape[2] < end:
            self._blocks = [self._larger(place, new, end) for place, new in enumerate(states)]
        for block, new in zip(self._blocks, states, strict=True):
            block[:, :, start:end] = new
        self._show(end)
        return cast(torch.Tensor, self.keys), cast(torch.Tensor, self.values)

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens, given as a negative number; their room stays."""
        self._show(self._filled - abs(tokens_to_remove))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self._blocks = [block.repeat_interleave(repeats, dim=0) for block in self._blocks]
        self._show(self._filled)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        self._blocks = [block[indices] for block in self._blocks]
        self._show(self._filled)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Put the rows into another order."""
        self.batch_select_indices(beam_idx)

    def filled(self) -> tuple[torch.Tensor, ...]:
        """Return views of the keys and the values."""
        return tuple(block[:, :, : self._filled] for block in self._blocks)

    def fill(self, states: Sequence[torch.Tensor], room: int) -> None:
        """Take these keys and values as what is filled, with `room` for more behind them."""
        filled = states[0].shape[2]
        self._blocks = [states_BHTE.new_zeros(*_roomier(states_BHTE, filled + room)) for states_BHTE in states]
        for block, new in zip(self._blocks, states, strict=True):
            block[:, :, :filled] = new
        self._show(filled)

    def _larger(self, place: int, new: torch.Tensor, end: int) -> torch.Tensor:
        # Zeros: attention may read the room too, and a hidden value that is no number would still spoil a sum.
        block = new.new_zeros(new.shape[0], new.shape[1], end + _ROOM, new.shape[3])
        if self._blocks:
            block[:, :, : self._filled] = self._blocks[place][:, :, : self._filled]
        return block

    def _show(self, filled: int) -> None:
        self._filled = filled
        if self._blocks:
            self.keys, self.values = (filled_part(block, filled) for block in self._blocks)
            self.is_initialized = True


def branched(cache: DynamicCache, config: PreTrainedConfig, rows: int) -> DynamicCache:
    """Return a cache in which `rows` rows stand where the only row of `cache` stands; that one stays as it is."""
    out = growing_cache(config)
    for layer, source in zip(out.layers, cache.layers, strict=True):
        if isinstance(layer, GrowingLayer) and isinstance(source, GrowingLayer) and source.get_seq_length():
            layer.fill([states.expand(rows, -1, -1, -1) for states in source.filled()], _ROOM)
    return out


def side_by_side(caches: Sequence[DynamicCache], config: PreTrainedConfig, shared: int) -> DynamicCache:
    """Return one cache with the rows of all: `shared` tokens stay in front, the rest goes to the end.

    What lies between them in a shorter row is hidden by the mask, and zero, since a hidden value that is no number would
    still spoil a sum.
    """
    out = growing_cache(config)
    for layer, *sources in zip(out.layers, *(cache.layers for cache in caches), strict=True):
        assert isinstance(layer, GrowingLayer)
        parts = [source.filled() for source in sources if isinstance(source, GrowingLayer)]
        longest = max(keys.shape[2] for keys, _ in parts)
        layer.fill([torch.cat([_spread(part[place], shared, longest) for part in parts]) for place in (0, 1)], _ROOM)
    return out


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """Make an empty cache whose layers grow in place where they attend to everything; other layers are the stock ones."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _spread(states_BHTE: torch.Tensor, shared: int, longest: int) -> torch.Tensor:
    out = states_BHTE.new_zeros(*_roomier(states_BHTE, longest))
    tail = states_BHTE.shape[2] - shared
    out[:, :, :shared], out[:, :, longest - tail :] = states_BHTE[:, :, :shared], states_BHTE[:, :, shared:]
    return out


def _roomier(states_BHTE: torch.Tensor, tokens: int) -> tuple[int, int, int, int]:
    rows, heads, _, channels = states_BHTE.shape
    return rows, heads, tokens, channels
