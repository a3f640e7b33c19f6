"""Attention of one new token a row over a cache, as plain matrix products on the CPU.

torch's flash kernel is made for many queries; with one or a few a head it reads the cache at a third of the speed of a
matrix product (bench/generate.py). Query heads that share a key-value head are computed together, so that the cache is
read once and never repeated. It enters a stock model through transformers' public attention interface and takes the
stock masks; whatever it does not compute (many queries, capped scores, sinks, other devices) goes to stock attention.

Shapes: B rows, H key-value heads, G query heads of each, L tokens of the cache, E channels of a head, M = B x H.
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
    query_MGE = query_BNTE.view(rows * heads, -1, query_BNTE.shape[-1]) * scale
    score_MGL = torch.bmm(query_MGE, key_BHLE.flatten(0, 1).transpose(1, 2)).float()
    if attention_mask is not None:
        score_BXL = score_MGL.view(rows, -1, score_MGL.shape[-1])
        mask_B1L = attention_mask[:, 0, :, : score_MGL.shape[-1]]
        if mask_B1L.dtype == torch.bool:
            score_BXL.masked_fill_(~mask_B1L, float("-inf"))
        else:
            score_BXL += mask_B1L
    share_MGL = torch.softmax(score_MGL, dim=-1).to(value_BHLE.dtype)
    return torch.bmm(share_MGL, value_BHLE.flatten(0, 1)).view(rows, 1, -1, value_BHLE.shape[-1]), None


def _without_adapters(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
