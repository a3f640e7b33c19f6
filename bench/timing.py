"""Times that can be compared: the candidates take turns in one process, and the median of their rounds counts."""

import platform
import statistics
import time
from collections.abc import Callable

import numpy
import torch
import transformers

from luthier.core.hardware import processor, usable_cores


def in_turns(
    rounds: int = 7,
    *,
    warm_ups: int = 2,
    clock: Callable[[], float] = time.perf_counter,
    **candidates: Callable[[], object],
) -> dict[str, float]:
    """Return the median seconds of each candidate; the first rounds warm up and do not count.

    On a machine that does other work too, `time.process_time` as the clock counts what the process itself computed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds + warm_ups):
        for name, candidate in candidates.items():
            start = clock()
            candidate()
            seconds[name].append(clock() - start)
    return {name: statistics.median(times[warm_ups:]) for name, times in seconds.items()}


def machine() -> dict[str, str | int]:
    """What the times depend on."""
    return {
        "processor": processor(), "cores": usable_cores(), "threads": torch.get_num_threads(), "python": platform.python_version(),
        "torch": torch.__version__, "transformers": transformers.__version__, "numpy": numpy.__version__,
    }  # fmt: skip
