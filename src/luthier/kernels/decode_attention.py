"""Attention of one new token a row over a cache, as plain matrix products on the CPU.

torch's flash kernel is made for many queries; with one or a few a head it reads the cache at a third of the speed of a
matrix product (bench/generate.py). Query heads that share a key-value head are computed together, so that the cache is
read once and never repeated. It enters a stock model through transformers' public attention interface and takes the
stock masks; whatever it does not compute (many queries, capped scores, sinks, other devices) goes to stock attention.

In half precision oneDNN copies whatever does not lie densely, which the filled part of a growing cache does not: a copy of
all keys and values for every token. A cache therefore hands out views that know their block (`filled_part`), and the
product runs over the whole block, its room hidden.

Shapes: B rows, H key-value heads, G query heads of each, L tokens of the cache, E channels of a head, M = B x H, C tokens
that a block has room for.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

import torch
from peft import PeftModel
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "luthier_decode"
_STOCK = "sdpa"
_NOT_COMPUTED = ("softcap", "s_aux", "position_bias", "cache")
# A block is read as it lies while its room is at most so large a part of what is filled; beyond, the copy is cheaper.
_MOST_ROOM = 2.0


def use(model: PreTrainedModel | PeftModel) -> None:
    """Let a model that has stock SDPA attention decode with this; any other model stays as it is."""
    stock = _without_adapters(model)
    if stock.config._attn_implementation == _STOCK and stock.device.type == "cpu":
        AttentionInterface.register(NAME, decode_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        stock.set_attn_implementation(NAME)


@contextmanager
def used(model: PreTrainedModel | PeftModel) -> Generator[None]:
    """Use it for a while, and go back to what the model had."""
    stock = _without_adapters(model)
    before = stock.config._attn_implementation
    use(stock)
    try:
        yield
    finally:
        if before is not None and stock.config._attn_implementation != before:
            stock.set_attn_implementation(before)


class FilledPart(torch.Tensor):
    """The filled part of a dense block B x H x C x E whose room holds numbers; any operation on it gives plain tensors."""

    block: torch.Tensor
    # torch's own word for "results are plain tensors"; its type says nothing of class methods.
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]


def filled_part(block_BHCE: torch.Tensor, filled: int) -> torch.Tensor:
    """Return the first `filled` tokens of a block as a view that knows the block."""
    view = block_BHCE[:, :, :filled].as_subclass(FilledPart)
    view.block = block_BHCE
    return view


def decode_attention(
    module: torch.nn.Module,
    query_BNTE: torch.Tensor,
    key_BHLE: torch.Tensor,
    value_BHLE: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Attend with one query a head over all keys that the mask shows; returns B x 1 x N x E."""
    if query_BNTE.shape[2] != 1 or dropout or any(options.get(name) is not None for name in _NOT_COMPUTED):
        return sdpa_attention_forward(
            module, query_BNTE, key_BHLE, value_BHLE, attention_mask, dropout=dropout, scaling=scaling,
            **options,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
    rows, heads = key_BHLE.shape[:2]
    scale = query_BNTE.shape[-1] ** -0.5 if scaling is None else scaling
    length, (key_BHCE, value_BHCE) = key_BHLE.shape[2], _dense(key_BHLE, value_BHLE)
    query_MGE = query_BNTE.view(rows * heads, -1, query_BNTE.shape[-1]) * scale
    score_MGC = torch.bmm(query_MGE, key_BHCE.flatten(0, 1).transpose(1, 2)).float()
    score_MGC[..., length:] = float("-inf")
    if attention_mask is not None:
        score_BXL = score_MGC.view(rows, -1, score_MGC.shape[-1])[..., :length]
        mask_B1L = attention_mask[:, 0, :, :length]
        if mask_B1L.dtype == torch.bool:
            score_BXL.masked_fill_(~mask_B1L, float("-inf"))
        else:
            score_BXL += mask_B1L
    share_MGC = torch.softmax(score_MGC, dim=-1).to(value_BHLE.dtype)
    return torch.bmm(share_MGC, value_BHCE.flatten(0, 1)).view(rows, 1, -1, value_BHLE.shape[-1]), None


def _dense(key_BHLE: torch.Tensor, value_BHLE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the whole blocks where a product would copy the filled parts for the sake of less room."""
    if isinstance(key_BHLE, FilledPart) and isinstance(value_BHLE, FilledPart) and key_BHLE.dtype != torch.float32:
        key_BHCE, value_BHCE = key_BHLE.block, value_BHLE.block
        length, room = key_BHLE.shape[2], key_BHCE.shape[2] - key_BHLE.shape[2]
        if room <= _MOST_ROOM * length and key_BHCE.is_contiguous() and value_BHCE.is_contiguous():
            return key_BHCE, value_BHCE
    return key_BHLE, value_BHLE


def _without_adapters(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
