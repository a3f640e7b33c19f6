"""An orderly end: a server that is told to stop takes nothing new, and lets what it has begun come to its end.

The first signal begins it: `/readyz` and new requests answer 503, streams go on. When none is left, or the time is up, the engines
end (a stream that is still open ends with an error that says so), then the workers save and give their jobs back. A
second signal ends it at once.
"""

import time
from types import FrameType

import uvicorn
from starlette.concurrency import run_in_threadpool

from luthier.server.control import Control


class Draining(uvicorn.Server):
    """Serves until a signal has come and the requests that were there have ended."""

    def __init__(self, config: uvicorn.Config, control: Control) -> None:
        super().__init__(config)
        self._control = control
        self._deadline = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop at the first signal; stop at once at the second."""
        if self._control.counters.stopping:
            super().handle_exit(sig, frame)
            return
        self._control.counters.stopping = True
        self._deadline = time.monotonic() + self._control.serving.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Tell whether it is time to go; called ten times a second."""
        if await super().on_tick(counter):
            return True
        counters = self._control.counters
        if not counters.stopping:
            return False
        if counters.in_flight and time.monotonic() >= self._deadline:
            await run_in_threadpool(self._control.engines.close)
            return True
        return not counters.in_flight
