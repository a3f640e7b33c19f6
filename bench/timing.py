"""Times that can be compared: the candidates take turns in one process, and the median of their rounds counts."""

import platform
import statistics
import time
from collections.abc import Callable

import numpy
import torch
import transformers

from luthier.core.hardware import processor, usable_cores


def in_turns(rounds: int = 7, **candidates: Callable[[], object]) -> dict[str, float]:
    """Return the median seconds of each candidate; the first two rounds warm up and do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds + 2):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[2:]) for name, times in seconds.items()}


def machine() -> dict[str, str | int]:
    """What the times depend on."""
    return {
        "processor": processor(), "cores": usable_cores(), "threads": torch.get_num_threads(), "python": platform.python_version(),
        "torch": torch.__version__, "transformers": transformers.__version__, "numpy": numpy.__version__,
    }  # fmt: skip
