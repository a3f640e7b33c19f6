"""SIGINT and SIGTERM as a request: finish the step, save, stop."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], object] | int | None


class StopRequest:
    """The number of the signal that asked to stop, or None."""

    def __init__(self) -> None:
        self.signal_number: int | None = None


@contextmanager
def stop_request() -> Generator[StopRequest]:
    """Note the first SIGINT or SIGTERM while the block runs; a second one acts at once, as it would have before.

    Outside the main thread nothing is noted: Python delivers no signals there, and whoever started
    the thread stops it.
    """
    request = StopRequest()
    before: dict[signal.Signals, _Handler] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        restore()

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in _STOP_SIGNALS}
    try:
        yield request
    finally:
        restore()
