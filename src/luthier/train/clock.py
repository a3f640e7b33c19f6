"""Seconds and bytes of a run in training: what the progress line and the timings journal tell."""

import resource
import sys
import time

import psutil
import torch

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, KiB elsewhere


class Clock:
    """Seconds of this run, over all its processes."""

    def __init__(self, seconds_before: float) -> None:
        self._before = seconds_before
        self._start = self._then = time.monotonic()
        self._tokens = 0
        self.last = 0.0

    @property
    def total(self) -> float:
        """The seconds of all processes of this run so far."""
        return self._before + time.monotonic() - self._start

    @property
    def tokens_per_second(self) -> float:
        """The rows' own tokens a second, in this process."""
        return self._tokens / max(1e-9, time.monotonic() - self._start)

    def tick(self, tokens: int) -> None:
        """Note that a step of so many tokens is done; `last` is then its seconds."""
        now = time.monotonic()
        self.last, self._then = now - self._then, now
        self._tokens += tokens


def memory_bytes() -> int:
    """The memory of this process now, in bytes; of the GPU where the model lies on one."""
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        return torch.cuda.memory_allocated()
    return psutil.Process().memory_info().rss


def peak_memory_bytes() -> int:
    """The most memory this process has held, in bytes."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
