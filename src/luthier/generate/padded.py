"""A batch of rows padded on the left, through the model's own cache and masks: for any model.

B is the number of rows that run, T the number of tokens in the cache, V the size of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedConfig

from luthier.compat.cache_argument import with_cache
from luthier.core.types import Prompt
from luthier.generate.growing import branched, growing_cache, side_by_side
from luthier.generate.shared import num_shared

_GROUP = 8


@dataclass(frozen=True, slots=True)
class Padding:
    """What padded rows are run with: a model, the token that pads, and room for so many tokens of an answer."""

    model: nn.Module
    config: PreTrainedConfig
    token: int
    room: int
    attends_to_all: bool

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def forward(
        self,
        tokens_BT: torch.Tensor,
        position_BT: torch.Tensor,
        mask_BT: torch.Tensor | None,
        cache: DynamicCache,
        *,
        keep: int = 1,
    ) -> torch.Tensor:
        """Run tokens through the model into the cache and return the logits behind the last `keep` of them."""
        return self.model(
            input_ids=tokens_BT,
            attention_mask=mask_BT,
            position_ids=position_BT,
            use_cache=True,
            logits_to_keep=keep,
            **with_cache(cache),
        ).logits


@dataclass(slots=True)
class PaddedRows:
    """The rows of a batch while they are decoded; line i of every tensor belongs to `rows[i]`."""

    padding: Padding
    batch: Sequence[Prompt]
    rows: list[int]
    cache: DynamicCache
    mask_BT: torch.Tensor | None
    position_B: torch.Tensor
    logits_BV: torch.Tensor

    def keep(self, lines: list[int]) -> None:
        """Let all other lines go."""
        index = torch.tensor(lines, device=self.position_B.device)
        self.rows = [self.rows[line] for line in lines]
        self.cache.batch_select_indices(index)
        self.mask_BT = None if self.mask_BT is None else self.mask_BT[index]
        self.position_B = self.position_B[index]
        self.logits_BV = self.logits_BV[index]

    def advance(self, tokens_B: torch.Tensor) -> None:
        """Run one more token of every row."""
        self.position_B = self.position_B + 1
        mask_BT = self._mask_behind(1)
        self.logits_BV = self.padding.forward(tokens_B[:, None], self.position_B[:, None], mask_BT, self.cache)[:, -1]

    def look(self, stretches: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Return the logits behind every token of a stretch behind each row, T x V; the rows stay where they are.

        A model that cannot forget runs a row's prompt again, and must be given one row at a time.
        """
        device, longest = self.position_B.device, max(map(len, stretches))
        if not self.padding.attends_to_all:
            assert len(self.rows) == 1
            whole = torch.tensor([[*self.batch[self.rows[0]].tokens, *stretches[0]]], device=device)
            place_1T = torch.arange(whole.shape[1], device=device)[None]
            cache = growing_cache(self.padding.config)
            return [self.padding.forward(whole, place_1T, None, cache, keep=longest)[0]]
        # Padding comes behind, where no token of the stretch looks.
        tokens_BT = torch.tensor([[*one, *[0] * (longest - len(one))] for one in stretches], device=device)
        position_BT = self.position_B[:, None] + 1 + torch.arange(longest, device=device)
        mask_BT = self._mask_behind(longest)
        logits_BTV = self.padding.forward(tokens_BT, position_BT, mask_BT, self.cache, keep=longest)
        self.cache.crop(-longest)
        return [logits_TV[: len(one)] for logits_TV, one in zip(logits_BTV, stretches, strict=True)]

    def _mask_behind(self, more: int) -> torch.Tensor | None:
        """Return the mask for `more` tokens behind those in the cache; None where no row is padded."""
        return None if self.mask_BT is None else self.mask_BT[:, : self.cache.get_seq_length() + more]


def padded_rows(padding: Padding, batch: Sequence[Prompt]) -> PaddedRows:
    """Run the prompts into a cache: what they share once, the rest side by side, padded on the left.

    Some neighbours in length run at a time, so that little is padded; they meet in the cache of the whole batch. Padding comes to
    lie behind what is shared, where a sliding window would count it.
    """
    shared = num_shared(batch) if padding.attends_to_all else 0
    size = _GROUP if padding.attends_to_all else len(batch)
    head = growing_cache(padding.config)
    if shared:
        tokens = torch.tensor([batch[0].tokens[:shared]], device=padding.device)
        padding.forward(tokens, torch.arange(shared, device=padding.device)[None], None, head)
    groups = [batch[start : start + size] for start in range(0, len(batch), size)]
    runs = [_tails(padding, group, shared, branched(head, padding.config, len(group))) for group in groups]
    if len(runs) == 1:
        return runs[0]
    mask_BT, _ = _masked(padding, batch, shared)
    return PaddedRows(
        padding, batch, list(range(len(batch))), side_by_side([run.cache for run in runs], padding.config, shared), mask_BT,
        torch.cat([run.position_B for run in runs]), torch.cat([run.logits_BV for run in runs]),
    )  # fmt: skip


def _tails(padding: Padding, batch: Sequence[Prompt], shared: int, cache: DynamicCache) -> PaddedRows:
    """Run what the prompts do not share behind a cache of what they do."""
    mask_BT, position_BT = _masked(padding, batch, shared)
    longest = position_BT.shape[1]
    tails = [prompt.tokens[shared:] for prompt in batch]
    tokens_BT = torch.tensor(
        [[*[padding.token] * (longest - len(tail)), *tail] for tail in tails], device=padding.device
    )
    known = None if mask_BT is None else mask_BT[:, : shared + longest]
    logits_B1V = padding.forward(tokens_BT, position_BT, known, cache)
    return PaddedRows(padding, batch, list(range(len(batch))), cache, mask_BT, position_BT[:, -1], logits_B1V[:, -1])


def _masked(padding: Padding, batch: Sequence[Prompt], shared: int) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return the mask of prompts padded between what is shared and the rest, with room for answers, and positions."""
    device = padding.device
    lengths = [len(prompt.tokens) - shared for prompt in batch]
    longest = max(lengths)
    padding_B1 = torch.tensor([[longest - length] for length in lengths], device=device)
    place_1T = torch.arange(longest, device=device)[None]
    position_BT = (place_1T - padding_B1).clamp(min=0) + shared
    if min(lengths) == longest:
        return None, position_BT
    before, behind = (torch.ones(len(batch), size, dtype=torch.long, device=device) for size in (shared, padding.room))
    return torch.cat([before, (place_1T >= padding_B1).long(), behind], dim=1), position_BT
