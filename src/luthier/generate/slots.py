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

from luthier.generate.block_layer import BlockLayer

_COLUMNS = 128


@dataclass(slots=True)
class Window:
    """What the running forward pass touches: lines from `first` on, a column per token, and columns up to `end`."""

    first: int
    column_BT: torch.Tensor
    end: int


class _SlotLayer(BlockLayer):
    """One layer's block; the last column takes what padding writes, and nobody reads it."""

    def __init__(self, slots: "Slots") -> None:
        super().__init__(slots)
        self._slots = slots

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write B x H x T x D states at their columns, and return all that these lines may see."""
        keys, values = self.blocks_for(key_states, value_states)
        window = self._slots.window
        lines = slice(window.first, window.first + key_states.shape[0])
        line_B1 = torch.arange(lines.start, lines.stop, device=key_states.device)[:, None]
        keys[line_B1, :, window.column_BT] = key_states.transpose(1, 2)
        values[line_B1, :, window.column_BT] = value_states.transpose(1, 2)
        return keys[lines, :, : window.end], values[lines, :, : window.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the columns that the mask spans, and where they begin."""
        return self._slots.window.end, 0

    def get_seq_length(self) -> int:
        """Return the columns in use; masks and positions are given, so that nobody counts on it."""
        return self._slots.window.end - self._slots.window.column_BT.shape[1]


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
        kept = self.columns - 1  # without the one for padding
        self.lines = max(self.lines, lines)
        self.columns = max(self.columns, -(-(end + 1) // _COLUMNS) * _COLUMNS)
        for layer in self.layers:
            layer.resize(self.lines, self.columns, kept=kept)

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
