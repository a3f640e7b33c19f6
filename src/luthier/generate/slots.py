"""Keys and values of the rows that run, side by side in one block of memory per layer.

A row's line holds its token at the column of its position, so nothing is padded; a step writes one column a row and
reads the block as it lies, without a copy. Rows that leave are replaced by the last line. Keys and values have the
model's own type and its own number of key-value heads.

B is the number of lines in use by a forward pass, T its tokens a row, H the key-value heads, C the columns, D the
channels of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

_COLUMNS = 128


@dataclass(slots=True)
class Window:
    """What the running forward pass touches: lines from `first` on, a column per token, and columns up to `end`."""

    first: int
    column_BT: torch.Tensor
    end: int


class _SlotLayer(CacheLayerMixin):
    """One layer's block; the last column takes what padding writes, and nobody reads it."""

    is_sliding = False

    def __init__(self, slots: "Slots") -> None:
        super().__init__()
        self._slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the blocks; zeros, since a hidden value that is no number would still spoil a sum."""
        lines, columns = self._slots.lines, self._slots.columns
        self.keys, self.values = (
            states.new_zeros(lines, states.shape[1], columns, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write B x H x T x D states at their columns, and return all that these lines may see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        window = self._slots.window
        lines = slice(window.first, window.first + key_states.shape[0])
        line_B1 = torch.arange(lines.start, lines.stop, device=key_states.device)[:, None]
        self.keys[line_B1, :, window.column_BT] = key_states.transpose(1, 2)
        self.values[line_B1, :, window.column_BT] = value_states.transpose(1, 2)
        return self.keys[lines, :, : window.end], self.values[lines, :, : window.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the columns that the mask spans, and where they begin."""
        return self._slots.window.end, 0

    def get_seq_length(self) -> int:
        """Return the columns in use; masks and positions are given, so that nobody counts on it."""
        return self._slots.window.end - self._slots.window.column_BT.shape[1]

    def get_max_length(self) -> int:
        """Return -1: the block grows."""
        return -1

    def resize(self, lines: int, columns: int) -> None:
        """Move into a larger block."""
        if self.keys is None or self.values is None:
            return
        old_lines, _, old_columns, _ = self.keys.shape
        for name, old in (("keys", self.keys), ("values", self.values)):
            new = old.new_zeros(lines, old.shape[1], columns, old.shape[3])
            new[:old_lines, :, : old_columns - 1] = old[:, :, :-1]
            setattr(self, name, new)


class Slots:
    """The lines of all layers, handed to the model as its cache."""

    def __init__(self, num_layers: int) -> None:
        self.lines = self.columns = 0
        self.window = Window(0, torch.zeros(0, 0, dtype=torch.long), 0)
        self._num_layers = num_layers
        self._forget()

    def reserve(self, lines: int, end: int) -> None:
        """Make room for so many lines with columns up to `end`, and one column for padding behind them."""
        if lines <= self.lines and end < self.columns:
            return
        self.lines = max(self.lines, lines)
        self.columns = max(self.columns, -(-(end + 1) // _COLUMNS) * _COLUMNS)
        for layer in self.layers:
            layer.resize(self.lines, self.columns)

    def copy(self, source: int, target: int, end: int) -> None:
        """Copy the first `end` columns of a line to another."""
        for block in self._blocks():
            block[target, :, :end] = block[source, :, :end]

    def erase(self, line: int) -> None:
        """Write zeros over a line that may hold what is no number, which would spoil sums even where it is hidden."""
        for block in self._blocks():
            block[line] = 0

    def read(self, line: int, start: int, end: int) -> tuple[torch.Tensor, ...]:
        """Return a copy of a stretch of a line: keys and values of each layer, H x (end - start) x D."""
        return tuple(block[line, :, start:end].clone() for block in self._blocks())

    def write(self, line: int, stretches: Sequence[tuple[torch.Tensor, ...]]) -> None:
        """Write stretches that follow one another to the beginning of a line; the first ones make the blocks."""
        for layer, keys_HTD, values_HTD in zip(self.layers, stretches[0][::2], stretches[0][1::2], strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys_HTD[None], values_HTD[None])
        for block, *pieces in zip(self._blocks(), *stretches, strict=True):
            whole_HTD = torch.cat(pieces, dim=1)
            block[line, :, : whole_HTD.shape[1]] = whole_HTD

    def clear(self) -> None:
        """Give the memory back; no line may be in use."""
        self.lines = self.columns = 0
        self._forget()

    def num_bytes(self) -> int:
        """Count the bytes of all blocks."""
        return sum(block.numel() * block.element_size() for block in self._blocks())

    def _blocks(self) -> list[torch.Tensor]:
        return [block for layer in self.layers for block in (layer.keys, layer.values) if block is not None]

    def _forget(self) -> None:
        self.layers = [_SlotLayer(self) for _ in range(self._num_layers)]
        self.cache = Cache(layers=list(self.layers))
