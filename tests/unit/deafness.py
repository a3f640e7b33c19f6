"""For how long a piece of work does not hear Ctrl-C: signals are handled between two steps of Python, never within C."""

import signal
import time
from collections.abc import Callable
from itertools import pairwise
from types import FrameType

_EVERY_SECONDS = 0.02


def longest_deaf_seconds(work: Callable[[], object]) -> float:
    """Return the longest time, in CPU seconds of this process, for which a signal would have had to wait."""
    heard = [time.process_time()]

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(time.process_time())

    before = signal.signal(signal.SIGPROF, hear)
    signal.setitimer(signal.ITIMER_PROF, _EVERY_SECONDS, _EVERY_SECONDS)
    try:
        work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    heard.append(time.process_time())
    return max(later - sooner for sooner, later in pairwise(heard))
