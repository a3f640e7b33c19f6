"""Products of a decoding step, from plain weights and from weights packed once: CPU seconds on one thread.

    OMP_NUM_THREADS=1 python bench/packed.py

Many layers take turns, so that their weights come from memory as in a model. `same` says whether both give the same bits. `joined_over_apart` is the time of
layers that read the same input and are multiplied as one (a gate and what it gates; queries, keys and values) over that of the same layers
packed one by one; OMP_NUM_THREADS=2 gives it for two threads.
"""

import json
import time
from functools import partial

import torch
from timing import in_turns, machine
from torch import nn

from luthier.kernels.packed_linear import PackedLinear, Together

LAYERS, OUT, IN = 24, 1536, 576
JOINED = {"gates": (1536, 1536), "queries, keys and values": (576, 192, 192)}


def through(layers: list[nn.Linear], given: torch.Tensor) -> None:
    """Run a step through all layers."""
    for layer in layers:
        layer(given)


def joined_over_apart(widths: tuple[int, ...], rows: int) -> float:
    """Return the time of layers multiplied as one over that of each by itself."""
    apart, joined = [], []
    for _ in range(LAYERS):
        plain = [nn.Linear(IN, out, bias=False).bfloat16() for out in widths]
        together = Together(plain)
        apart += [PackedLinear(layer) for layer in plain]
        joined += [PackedLinear(layer, together, place) for place, layer in enumerate(plain)]
    given = torch.randn(rows, IN).bfloat16()
    seconds = in_turns(5, apart=partial(through, apart, given), joined=partial(through, joined, given))
    return round(seconds["joined"] / seconds["apart"], 2)


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    plain = [nn.Linear(IN, OUT, bias=False).bfloat16() for _ in range(LAYERS)]
    packed: list[nn.Linear] = [PackedLinear(layer) for layer in plain]
    results = []
    for rows in (1, 4, 8, 16, 32, 64, 256):
        given = torch.randn(rows, IN).bfloat16()
        seconds = in_turns(
            5, clock=time.process_time, plain=partial(through, plain, given), packed=partial(through, packed, given)
        )
        same = torch.equal(plain[0](given), packed[0](given))
        results.append(
            {"rows": rows, "plain_over_packed": round(seconds["plain"] / seconds["packed"], 2), "same": same}
        )
    joined = [
        {"rows": rows, **{name: joined_over_apart(widths, rows) for name, widths in JOINED.items()}}
        for rows in (1, 8, 32, 64)
    ]
    report = {"weights": [OUT, IN], "results": results, "joined_over_apart": joined}
    print(json.dumps({"bench": "packed", **machine(), **report}, indent=1))


if __name__ == "__main__":
    main()
