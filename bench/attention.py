"""Packed attention's short kernel against torch's flash attention: forward and backward of one layer, on the CPU.

    python bench/attention.py

prints JSON with the milliseconds of both and their ratio, from alternating rounds of one process.
"""

import json

import torch
from timing import in_turns, machine
from torch.nn.functional import scaled_dot_product_attention

from luthier.kernels.attention import causal_attention

HEADS, CHANNELS, TOKENS = 4, 64, 6144


def measure(length: int) -> dict[str, float]:
    """Time both on sequences of one length that hold 6,144 tokens together."""
    shape = (HEADS, TOKENS // length, length, CHANNELS)
    query, key, value = (torch.randn(shape, requires_grad=True) for _ in range(3))
    grad = torch.randn(shape)
    scale = CHANNELS**-0.5
    seconds = in_turns(
        short=lambda: causal_attention(query, key, value, scale).backward(grad),
        flash=lambda: scaled_dot_product_attention(query, key, value, scale=scale, is_causal=True).backward(grad),
    )
    return {
        "tokens": length, "short_ms": round(1000 * seconds["short"], 2), "flash_ms": round(1000 * seconds["flash"], 2),
        "short_over_flash": round(seconds["short"] / seconds["flash"], 3),
    }  # fmt: skip


if __name__ == "__main__":
    torch.manual_seed(0)
    print(
        json.dumps(
            {"bench": "attention", **machine(), "lengths": [measure(length) for length in (48, 96, 192, 384)]}, indent=1
        )
    )
