"""The next token from logits: the likeliest, or drawn from the likeliest by a number that the row brings along.

B is the number of rows, V the size of the vocabulary.
"""

import torch

from luthier.core.errors import RunFailed
from luthier.kernels import native

_IN_CACHE = 1 << 19  # logits that are gone over at once on a CPU: two MiB in float32


def greedy(logits_BV: torch.Tensor) -> torch.Tensor:
    """Return the likeliest token of each row, the lowest id among equals; raise RunFailed for logits that are no numbers."""
    compiled = native.for_type(logits_BV)
    best_B, tokens_B = logits_BV.max(dim=-1) if compiled is None else compiled.greatest(logits_BV)
    _check_finite(best_B)
    return tokens_B


def sampled(
    logits_BV: torch.Tensor, uniform_B: torch.Tensor, temperature: float | torch.Tensor, top_p: float | torch.Tensor
) -> torch.Tensor:
    """Draw from the smallest set of tokens with at least `top_p` probability (Holtzman et al. 2019, arXiv 1904.09751).

    `uniform_B` in [0, 1) decides, so that a row's answer depends on its own logits and numbers alone.
    `temperature` and `top_p` are one number for all rows, or a column with one for each.
    """
    probability_BV, tokens_BV = torch.softmax(logits_BV.float() / temperature, dim=-1).sort(
        dim=-1, descending=True, stable=True
    )
    _check_finite(probability_BV[:, 0])
    total_BV = probability_BV.cumsum(dim=-1)
    # A forbidden token has no probability, and must not be drawn where rounding brings `uniform_B` up to 1.
    outside_BV = (total_BV - probability_BV >= top_p) | (probability_BV == 0)
    total_BV = probability_BV.masked_fill(outside_BV, 0.0).cumsum(dim=-1)
    place_B1 = torch.searchsorted(total_BV, uniform_B[:, None] * total_BV[:, -1:], right=True)
    last_B1 = (~outside_BV).sum(dim=-1, keepdim=True) - 1
    return tokens_BV.gather(1, torch.minimum(place_B1, last_B1))[:, 0]


def log_probability(logits_BV: torch.Tensor, tokens_B: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of each row's probability for its token, among the tokens that its logits allow."""
    if (compiled := native.for_type(logits_BV)) is not None:
        chosen_B = logits_BV.gather(1, tokens_B[:, None])[:, 0].float()
        return chosen_B - compiled.log_sum_exp(logits_BV)
    # A CPU's cache holds some rows in float32 while they are gone over several times, and not a large batch.
    rows = len(logits_BV) if logits_BV.is_cuda else max(1, _IN_CACHE // logits_BV.shape[1])
    pieces = zip(logits_BV.split(rows), tokens_B[:, None].split(rows), strict=True)
    return torch.cat([logits.float().log_softmax(dim=-1).gather(1, tokens) for logits, tokens in pieces])[:, 0]


def _check_finite(values_B: torch.Tensor) -> None:
    if not bool(torch.isfinite(values_B).all()):
        raise RunFailed(
            "the model's logits are no finite numbers, so no token can be chosen. Its weights may be damaged, or the "
            "type too narrow: set model.dtype to float32."
        )
