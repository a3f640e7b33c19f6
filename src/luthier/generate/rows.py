"""The rows that a serving engine runs: prompts join at the end, a row that leaves is replaced by the last.

Proven models on a CPU lay their rows flat (`flat_pool.py`). Other models whose layers all attend to everything keep their rows side by side
in one block and share known beginnings of prompts. All others (windows, recurrent or convolution layers) keep each row in a cache of its own and run row by row,
since their states cannot be cut, padded or moved.

B is the number of rows of a forward pass, T the tokens of the longest, C the columns of the cache, V the size of the
vocabulary.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin

from luthier.compat.cache_argument import with_cache
from luthier.generate.adapters import Adapters
from luthier.generate.asked import Asked, run_first
from luthier.generate.flat import lay_flat, may_lie_flat
from luthier.generate.flat_pool import FlatPool
from luthier.generate.growing import growing_cache
from luthier.generate.prefix import PIECE, PrefixCache
from luthier.generate.slots import Slots, Window
from luthier.kernels import decode_attention


class Rows(Protocol):
    """Where the running rows keep their states; a row is its place in the order of joining, as `drop` changes it."""

    def join(self, asked: Sequence[Asked]) -> tuple[torch.Tensor, list[int]]:
        """Run prompts; return the logits behind each, and how many tokens of each were known already."""
        ...

    def repeat(self, row: int) -> None:
        """Let a row join that stands where `row` stands."""
        ...

    def advance(self, tokens: Sequence[int]) -> torch.Tensor:
        """Run one more token of every row; return the logits behind it."""
        ...

    def drop(self, row: int, *, spoiled: bool = False) -> None:
        """Let a row go, and what is `spoiled` with it; the last row takes its place."""
        ...

    def num_bytes(self) -> dict[str, int]:
        """Count the bytes of the running rows and of known prompts."""
        ...


class PooledRows:
    """Rows side by side."""

    def __init__(self, adapters: Adapters, config: PreTrainedConfig, prefix_bytes: int) -> None:
        self._adapters = adapters
        self._slots = Slots(config.get_text_config(decoder=True).num_hidden_layers)
        self._prefixes = PrefixCache(prefix_bytes)
        self._rows: list[Asked] = []
        self._lengths: list[int] = []

    def join(self, asked: Sequence[Asked]) -> tuple[torch.Tensor, list[int]]:
        """Run prompts; where several begin alike and the beginning is new, the first runs before the others."""
        if run_first(asked) and not self._prefixes.match(self._adapters.use(asked[0].adapter), asked[0].tokens):
            first_BV, first_known = self._joined(asked[:1])
            rest_BV, rest_known = self._joined(asked[1:])
            return torch.cat([first_BV, rest_BV]), first_known + rest_known
        return self._joined(asked)

    def repeat(self, row: int) -> None:
        """Copy a row to a new one at the end."""
        self._slots.reserve(len(self._rows) + 1, self._lengths[row])
        self._slots.copy(row, len(self._rows), self._lengths[row])
        self._rows.append(self._rows[row])
        self._lengths.append(self._lengths[row])

    def advance(self, tokens: Sequence[int]) -> torch.Tensor:
        """Run one more token of every row."""
        logits_BV = self._forward(0, [[token] for token in tokens], self._lengths)
        self._lengths = [length + 1 for length in self._lengths]
        return logits_BV

    def drop(self, row: int, *, spoiled: bool = False) -> None:
        """Let a row go; with the last one the memory goes too."""
        last = len(self._rows) - 1
        if spoiled:
            self._slots.erase(row)
        if row != last:
            self._slots.copy(last, row, self._lengths[last])
        self._rows[row], self._lengths[row] = self._rows[last], self._lengths[last]
        self._rows.pop()
        self._lengths.pop()
        if not self._rows:
            self._slots.clear()

    def num_bytes(self) -> dict[str, int]:
        """Count the bytes of the running rows and of known prompts."""
        return {"rows": self._slots.num_bytes(), "prefixes": self._prefixes.num_bytes}

    def _joined(self, asked: Sequence[Asked]) -> tuple[torch.Tensor, list[int]]:
        first = len(self._rows)
        weights = [self._adapters.use(one.adapter) for one in asked]
        pieces = [self._prefixes.match(own, one.tokens) for own, one in zip(weights, asked)]
        known = [len(found) * PIECE for found in pieces]
        self._slots.reserve(first + len(asked), max(len(one.tokens) for one in asked))
        for line, found in enumerate(pieces, first):
            if found:
                self._slots.write(line, found)
        self._rows += asked
        self._lengths += [len(one.tokens) for one in asked]
        logits_BV = self._forward(first, [one.tokens[start:] for start, one in zip(known, asked)], known)
        for line, (own, one) in enumerate(zip(weights, asked), first):
            self._prefixes.store(own, one.tokens, lambda start, end, line=line: self._slots.read(line, start, end))
        return logits_BV, known

    def _forward(self, first: int, tokens: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
        """Run tokens of the lines from `first` on, each behind what its line holds; padded on the left."""
        device = self._adapters.model.device
        longest = max(map(len, tokens))
        end = max(start + len(own) for start, own in zip(starts, tokens))
        self._slots.reserve(first + len(tokens), end)
        ids_BT = torch.tensor([[*[0] * (longest - len(own)), *own] for own in tokens], device=device)
        offset_B1 = torch.tensor([[start - (longest - len(own))] for start, own in zip(starts, tokens)], device=device)
        place_BT = offset_B1 + torch.arange(longest, device=device)
        padded_BT = place_BT < torch.tensor([[start] for start in starts], device=device)
        position_BT = place_BT.clamp(min=0)
        self._slots.window = Window(first, place_BT.masked_fill(padded_BT, self._slots.columns - 1), end)
        hidden_BTC = torch.arange(end, device=device) > position_BT[:, :, None]
        dtype = self._adapters.model.dtype
        mask_B1TC = torch.zeros(hidden_BTC.shape, dtype=dtype, device=device).masked_fill(
            hidden_BTC, torch.finfo(dtype).min
        )[:, None]
        rows = self._rows[first : first + len(tokens)]
        return self._adapters.model(
            input_ids=ids_BT, position_ids=position_BT, attention_mask=mask_B1TC, use_cache=True, logits_to_keep=1,
            **with_cache(self._slots.cache), **self._adapters.arguments([one.adapter for one in rows]),
        ).logits[:, -1]  # fmt: skip


class SeparateRows:
    """Each row with a cache of its own."""

    def __init__(self, adapters: Adapters, config: PreTrainedConfig) -> None:
        self._adapters, self._config = adapters, config
        self._rows: list[tuple[Asked, DynamicCache, int]] = []

    def join(self, asked: Sequence[Asked]) -> tuple[torch.Tensor, list[int]]:
        """Run prompts one by one."""
        logits = []
        for one in asked:
            self._adapters.use(one.adapter)
            cache = growing_cache(self._config)
            logits.append(self._forward(one, cache, one.tokens, 0))
            self._rows.append((one, cache, len(one.tokens)))
        return torch.cat(logits), [0] * len(asked)

    def repeat(self, row: int) -> None:
        """Run the prompt of a row again."""
        self.join([self._rows[row][0]])

    def advance(self, tokens: Sequence[int]) -> torch.Tensor:
        """Run one more token of every row."""
        logits = [self._forward(one, cache, [token], at) for token, (one, cache, at) in zip(tokens, self._rows)]
        self._rows = [(one, cache, at + 1) for one, cache, at in self._rows]
        return torch.cat(logits)

    def drop(self, row: int, *, spoiled: bool = False) -> None:
        """Let a row go with its cache; the last row takes its place."""
        self._rows[row] = self._rows[-1]
        self._rows.pop()

    def num_bytes(self) -> dict[str, int]:
        """Count the bytes of the running rows' keys and values."""
        layers = [layer for _, cache, _ in self._rows for layer in cache.layers if isinstance(layer, CacheLayerMixin)]
        blocks = [block for layer in layers for block in (layer.keys, layer.values) if block is not None]
        return {"rows": sum(block.numel() * block.element_size() for block in blocks), "prefixes": 0}

    def _forward(self, one: Asked, cache: DynamicCache, tokens: Sequence[int], start: int) -> torch.Tensor:
        device = self._adapters.model.device
        position_1T = torch.arange(start, start + len(tokens), device=device)[None]
        return self._adapters.model(
            input_ids=torch.tensor([list(tokens)], device=device), position_ids=position_1T, use_cache=True, logits_to_keep=1,
            **with_cache(cache), **self._adapters.arguments([one.adapter]),
        ).logits[:, -1]  # fmt: skip


def rows_for(adapters: Adapters, prefix_bytes: int) -> Rows:
    """Return the rows that the model's layers allow; the model decodes with attention made for it from now on."""
    config = adapters.model.config
    assert isinstance(config, PreTrainedConfig)
    if may_lie_flat(adapters.model):
        lay_flat(adapters.model)
        return FlatPool(adapters, config, prefix_bytes)
    decode_attention.use(adapters.model)
    empty = DynamicCache(config=config)
    if empty.is_croppable and not any(empty.is_sliding):
        return PooledRows(adapters, config, prefix_bytes)
    return SeparateRows(adapters, config)
