"""Packed attention's short kernel against torch's flash attention: forward and backward of one layer, on the CPU.

    python bench/attention.py

prints JSON with the milliseconds of both and their ratio, from alternating rounds of one process.
"""

import json

import torch
from timing import in_turns, machine
from torch.nn.functional import scaled_dot_product_attention

from luthier.kernels.attention import causal_attention

HEADS, CHANNELS, TOKENS = 4, 64, 2304


def measure(length: int, dtype: torch.dtype) -> dict[str, str | float]:
    """Time both on sequences of one length that hold 2,304 tokens together."""
    shape = (HEADS, TOKENS // length, length, CHANNELS)
    query, key, value = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    grad = torch.randn(shape, dtype=dtype)
    scale = CHANNELS**-0.5
    seconds = in_turns(
        short=lambda: causal_attention(query, key, value, scale).backward(grad),
        flash=lambda: scaled_dot_product_attention(query, key, value, scale=scale, is_causal=True).backward(grad),
    )
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "tokens": length, "short_ms": round(1000 * seconds["short"], 2), "flash_ms": round(1000 * seconds["flash"], 2),
        "short_over_flash": round(seconds["short"] / seconds["flash"], 3),
    }  # fmt: skip


if __name__ == "__main__":
    torch.manual_seed(0)
    results = [measure(length, dtype) for dtype in (torch.bfloat16, torch.float32) for length in (48, 96, 192, 384)]
    print(json.dumps({"bench": "attention", **machine(), "results": results}, indent=1))
