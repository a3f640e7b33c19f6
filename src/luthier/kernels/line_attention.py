"""Attention of tokens that lie flat, each behind the keys of its own row and behind a beginning that rows share.

The rows of a batch begin alike. What they begin with stands once: the queries of all rows meet its keys in one matrix product,
and only what a row has of its own is a small product a row. One softmax runs over both parts. Nothing is padded between rows but in the
scores, so that rows of all lengths, and prompts and single new tokens, take the same road. It enters a stock model through transformers'
public attention interface; `generate/lines.py` says which models may use it, and keeps the keys.

Shapes: N tokens of a pass, n rows of a part, T tokens of the longest of them, H key-value heads, G query heads of each, E
channels of a head, C columns of the rows' own keys, P tokens of a beginning, X = G x T.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import AttentionInterface

from luthier.core.errors import ModelError
from luthier.kernels import native
from luthier.kernels.native import Rows

NAME = "luthier_lines"
_NOT_COMPUTED = ("softcap", "s_aux", "position_bias", "sliding_window")


@dataclass(frozen=True, slots=True)
class Beginning:
    """Keys and values, H x P x E of each layer, of tokens that several rows begin with."""

    num_tokens: int
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Behind:
    """Which rows of a part stand behind a beginning; all of them where `row_r` is None."""

    beginning: Beginning
    row_r: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are computed together: their lines, and what is added to their scores, n x 1 x T x C, to hide columns.

    `token_nT` are the places of their tokens in the pass, the last one again where a row has fewer than T; None where the pass has one token
    a row. `place_N` are the places of the tokens in n x T, which bring the results back.
    """

    lines: slice | torch.Tensor
    hidden_n1TC: torch.Tensor
    behind: tuple[Behind, ...] = ()
    token_nT: torch.Tensor | None = None
    place_N: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """What a forward pass is told: whose tokens it runs, behind which beginnings, and what gives a layer's keys and values by line.

    `parts` gives the same for plain torch: parts that cover the tokens in order.
    """

    rows: Rows
    beginnings: tuple[Beginning, ...]
    states: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    parts: Callable[[], tuple[Part, ...]]


def register() -> str:
    """Make it known to transformers, and return the name to set on a model."""
    AttentionInterface.register(NAME, _from_interface)
    return NAME


def line_attention(
    query_NXE: torch.Tensor,
    key_nHCE: torch.Tensor,
    value_nHCE: torch.Tensor,
    behind: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]],
    hidden_n1TC: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Return softmax attention of n x T queries over their rows' own keys and over the beginnings, as n x T x (H x G) x E.

    `behind` are keys and values of beginnings, H x P x E, and the rows that see them. Scores have the inputs' type, as in
    eager attention.
    """
    rows, heads, columns, channels = key_nHCE.shape
    longest = hidden_n1TC.shape[2]
    query_nTHGE = query_NXE.view(rows, longest, heads, -1, channels)
    query_nHXE = query_nTHGE.permute(0, 2, 3, 1, 4).reshape(rows, heads, -1, channels) * scale
    scores = [_beginning_scores(query_nHXE, key, row_r) for key, _, row_r in behind]
    own = torch.bmm(query_nHXE.flatten(0, 1), key_nHCE.flatten(0, 1).transpose(1, 2))
    scores.append(own.view(rows, heads, -1, columns))
    score_nHXS = torch.cat(scores, dim=-1) if behind else scores[0]
    own_nHGTC = score_nHXS[..., -columns:].unflatten(2, (-1, longest))
    own_nHGTC += hidden_n1TC[:, :, None]
    share_nHXS = torch.softmax(score_nHXS, dim=-1)
    share_MXC = share_nHXS[..., -columns:].flatten(0, 1)
    out_nHXE = torch.bmm(share_MXC, value_nHCE.flatten(0, 1)).view(rows, heads, -1, channels)
    start = 0
    for _, value_HPE, row_r in behind:
        share_nHXP = share_nHXS[..., start : start + value_HPE.shape[1]]
        start += value_HPE.shape[1]
        _add_beginning(out_nHXE, share_nHXP, value_HPE, row_r)
    return out_nHXE.unflatten(2, (-1, longest)).permute(0, 3, 1, 2, 4).reshape(rows, longest, -1, channels)


def _beginning_scores(query_nHXE: torch.Tensor, key_HPE: torch.Tensor, row_r: torch.Tensor | None) -> torch.Tensor:
    """Return the products with a beginning's keys, n x H x X x P; minus infinity in rows that do not stand behind it."""
    seen_rHXE = query_nHXE if row_r is None else query_nHXE[row_r]
    rows, heads, queries, channels = seen_rHXE.shape
    score_HYP = torch.bmm(seen_rHXE.transpose(0, 1).reshape(heads, -1, channels), key_HPE.transpose(1, 2))
    score_rHXP = score_HYP.view(heads, rows, queries, -1).transpose(0, 1)
    if row_r is None:
        return score_rHXP
    out_nHXP = score_rHXP.new_full((*query_nHXE.shape[:3], key_HPE.shape[1]), float("-inf"))
    out_nHXP[row_r] = score_rHXP
    return out_nHXP


def _add_beginning(
    out_nHXE: torch.Tensor, share_nHXP: torch.Tensor, value_HPE: torch.Tensor, row_r: torch.Tensor | None
) -> None:
    """Add the beginning's values, each by its share, to what its rows have from their own."""
    share_rHXP = share_nHXP if row_r is None else share_nHXP[row_r]
    rows, heads, queries, tokens = share_rHXP.shape
    found_HYE = torch.bmm(share_rHXP.transpose(0, 1).reshape(heads, -1, tokens), value_HPE)
    found_rHXE = found_HYE.view(heads, rows, queries, -1).transpose(0, 1)
    if row_r is None:
        out_nHXE += found_rHXE
    else:
        out_nHXE[row_r] += found_rHXE


def _from_interface(
    module: torch.nn.Module,
    query_BXTE: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    lines: Pass | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Attend with the tokens of a pass, 1 x N or N x 1; their own keys stand in their lines already.

    `options` are the interface's arguments for other implementations; raises ModelError for those that would change the result.
    """
    if lines is None or attention_mask is not None or dropout:
        raise ModelError("attention over lines takes the pass that it belongs to, no mask and no dropout.")
    if strange := [name for name in _NOT_COMPUTED if options.get(name) is not None]:
        raise ModelError(f"attention over lines does not compute {', '.join(strange)}.")
    layer = module.layer_idx
    assert isinstance(layer, int)
    scale = query_BXTE.shape[-1] ** -0.5 if scaling is None else scaling
    query_NXE = query_BXTE.transpose(1, 2).flatten(0, 1)
    if (compiled := native.for_attention(query_NXE)) is not None:
        beginnings = [one.layers[layer] for one in lines.beginnings]
        out_NXE = compiled.attend(query_NXE, lines.states(layer), lines.rows, beginnings, scale)
    else:
        found = [_part(query_NXE, part, layer, lines, scale) for part in lines.parts()]
        out_NXE = found[0] if len(found) == 1 else torch.cat(found)
    return out_NXE.view(query_BXTE.shape[0], query_BXTE.shape[2], *out_NXE.shape[1:]), None


def _part(query_NXE: torch.Tensor, part: Part, layer: int, lines: Pass, scale: float) -> torch.Tensor:
    """Return the results of a part's tokens, in their order."""
    columns = part.hidden_n1TC.shape[-1]
    key_nHCE, value_nHCE = (block[part.lines, :, :columns] for block in lines.states(layer))
    behind = [(*one.beginning.layers[layer], one.row_r) for one in part.behind]
    own_NXE = query_NXE if part.token_nT is None else query_NXE[part.token_nT]
    out_NXE = line_attention(own_NXE, key_nHCE, value_nHCE, behind, part.hidden_n1TC, scale).flatten(0, 1)
    return out_NXE if part.place_N is None else out_NXE[part.place_N]
