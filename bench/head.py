"""The fused output layer against cross_entropy on whole logits: forward and backward, D = 256, V = 8,192.

    python bench/head.py

prints JSON with the milliseconds of both and how many times as fast the fused one is, when every
position and when a fifth of the positions has a target.
"""

import json

import torch
from timing import in_turns, machine

from luthier.kernels import head

POSITIONS, WIDTH, WORDS = 2048, 256, 8192


def measure(share: float, dtype: torch.dtype) -> dict[str, str | float]:
    """Time both with targets at this share of the positions."""
    hidden = torch.randn(POSITIONS, WIDTH, dtype=dtype, requires_grad=True)
    weight = (torch.randn(WORDS, WIDTH, dtype=dtype) * 0.02).requires_grad_(True)
    index = torch.randperm(POSITIONS)[: int(share * POSITIONS)].sort().values
    target = torch.randint(WORDS, (len(index),))
    ones = torch.ones(len(index))
    labels = torch.full((POSITIONS,), -100)
    labels[index] = target

    def whole() -> None:
        torch.nn.functional.cross_entropy((hidden @ weight.t()).float(), labels, reduction="sum").backward()

    seconds = in_turns(fused=lambda: head.weighted_nll(hidden, index, target, ones, weight).backward(), whole=whole)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "share_of_targets": share, "fused_ms": round(1000 * seconds["fused"], 1), "whole_ms": round(1000 * seconds["whole"], 1),
        "times_as_fast": round(seconds["whole"] / seconds["fused"], 2),
    }  # fmt: skip


if __name__ == "__main__":
    torch.manual_seed(0)
    results = [measure(share, dtype) for dtype in (torch.bfloat16, torch.float32) for share in (1.0, 0.2)]
    print(json.dumps({"bench": "head", **machine(), "results": results}, indent=1))
