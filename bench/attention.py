"""Attention in training, forward and backward of one layer on the CPU: the compiled functions, products of torch, and torch's flash attention.

    python bench/attention.py [--json bench/results/attention.json] [--page docs/decisions/0010-compiled-functions.md]

prints the milliseconds of each from alternating rounds of one process, and the share of the compiled functions' time that the products of all scores that are seen
would take at the measured rate of matrix products: for packed rows of one length, 2,304 tokens together, and for a tree of 16 rows of 56 tokens behind 152.
Nine query heads share three key heads of 64 channels.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pages import table, with_block
from timing import in_turns, machine
from torch.nn.functional import scaled_dot_product_attention

from luthier.core.types import Segment
from luthier.kernels import native, native_attention
from luthier.kernels.attention import causal_attention
from luthier.kernels.rates import matmul_rate
from luthier.kernels.tree_attention import blocks, tree_attention

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
HEADS, GROUP, CHANNELS, TOKENS = 3, 3, 64, 2304
SCALE = CHANNELS**-0.5
PRODUCTS = 7  # two forward; one again and four more backward


def rows(length: int, dtype: torch.dtype) -> dict[str, str | float]:
    """Time all three on packed rows of one length."""
    number = TOKENS // length
    library, runs = _library(), native_attention.rows_of(((number, length),))

    def of_torch(attend: Attend) -> Attend:
        def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            wide = (query, key.repeat_interleave(GROUP, dim=0), value.repeat_interleave(GROUP, dim=0))
            query, key, value = (states.unflatten(1, (number, length)) for states in wide)
            return attend(query, key, value).flatten(1, 2)

        return run

    found = _in_turns(
        TOKENS, dtype,
        compiled=lambda query, key, value: native_attention.attend(library, query, key, value, runs, SCALE),
        products=of_torch(lambda query, key, value: causal_attention(query, key, value, SCALE)),
        flash=of_torch(lambda query, key, value: scaled_dot_product_attention(query, key, value, scale=SCALE, is_causal=True)),
    )  # fmt: skip
    return _entry(f"rows of {length}", dtype, found, TOKENS * (length + 1) // 2)


def tree(dtype: torch.dtype) -> dict[str, str | float]:
    """Time both along a tree."""
    segments = [Segment(0, 150, 152, 0, -1)] + [Segment(152 + 56 * n, 56, 56, 150, 0) for n in range(16)]
    library, laid = _library(), blocks(segments)
    branches = native_attention.branches_of(laid)
    found = _in_turns(
        segments[-1].start + 56, dtype,
        compiled=lambda query, key, value: native_attention.attend(library, query, key, value, branches, SCALE),
        products=lambda query, key, value: tree_attention(query, key, value, laid, SCALE),
    )  # fmt: skip
    return _entry("tree", dtype, found, sum(one.place * (one.depth + (one.place + 1) / 2) for one in segments))


def _library() -> native.Native:
    found = native.library()
    assert found is not None, native.why_not()
    return found


def _in_turns(tokens: int, dtype: torch.dtype, **attend: Attend) -> dict[str, float]:
    """Return the seconds of a forward and backward pass; states lie as a model's projections leave them."""
    query, key, value, grad = (
        torch.randn(tokens, heads, CHANNELS, dtype=dtype).transpose(0, 1) for heads in (HEADS * GROUP, HEADS, HEADS, HEADS * GROUP)
    )  # fmt: skip
    leaves = [states.requires_grad_() for states in (query, key, value)]

    def pass_of(run: Attend) -> Callable[[], object]:
        return lambda: torch.autograd.grad(run(query, key, value), leaves, grad)

    return in_turns(7, warm_ups=2, clock=time.perf_counter, **{name: pass_of(run) for name, run in attend.items()})


def _entry(what: str, dtype: torch.dtype, seconds: dict[str, float], scores: float) -> dict[str, str | float]:
    flops = PRODUCTS * 2 * scores * HEADS * GROUP * CHANNELS
    return {
        "what": what, "dtype": str(dtype).removeprefix("torch."), **{f"{name}_ms": round(1000 * one, 2) for name, one in seconds.items()},
        "of_the_matrix_rate": round(flops / matmul_rate(dtype) / seconds["compiled"], 2),
        **{f"{name}_over_compiled": round(one / seconds["compiled"], 2) for name, one in seconds.items() if name != "compiled"},
    }  # fmt: skip


def with_table(page: str, found: dict) -> str:
    """Return the page with the table of a result."""
    rows = [["what", "type", "compiled, ms", "products of torch", "torch's flash attention", "of the matrix rate"]]
    for one in found["results"]:
        flash = f"{one['flash_ms']:.1f}" if "flash_ms" in one else ""
        share = f"{one['of_the_matrix_rate']:.2f}"
        rows.append([one["what"], one["dtype"], f"{one['compiled_ms']:.1f}", f"{one['products_ms']:.1f}", flash, share])
    return with_block(page, "attention", table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    kinds = (torch.bfloat16, torch.float32)
    results = [rows(length, dtype) for dtype in kinds for length in (24, 48, 96, 192, 384, 768)] + [
        tree(dtype) for dtype in kinds
    ]
    report = {"bench": "attention", **machine(), "results": results}
    print(json.dumps(report, indent=1))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if given.page:
        given.page.write_text(with_table(given.page.read_text(encoding="utf-8"), report), encoding="utf-8")
