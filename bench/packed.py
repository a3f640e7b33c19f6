"""Products of a decoding step, from plain weights and from weights packed once: CPU seconds on one thread.

    OMP_NUM_THREADS=1 python bench/packed.py

Many layers take turns, so that their weights come from memory as in a model. `same` says whether both give the same bits.
"""

import json
import time
from functools import partial

import torch
from timing import in_turns, machine
from torch import nn

from luthier.kernels.packed_linear import PackedLinear

LAYERS, OUT, IN = 24, 1536, 576


def through(layers: list[nn.Linear], given: torch.Tensor) -> None:
    """Run a step through all layers."""
    for layer in layers:
        layer(given)


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
    print(json.dumps({"bench": "packed", **machine(), "weights": [OUT, IN], "results": results}, indent=1))


if __name__ == "__main__":
    main()
