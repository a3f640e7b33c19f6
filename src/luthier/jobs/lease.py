"""A claim that is kept alive while the work goes on, and tells when it is worth nothing any more."""

import threading
from types import TracebackType

from sqlalchemy.exc import OperationalError

from luthier.jobs.queue import HEARTBEAT_SECONDS, Queue, Stale

_LOOK_SECONDS = 1.0


class Lease:
    """Renews a claim from a thread of its own; `lost` is set within a second of a cancellation or a newer claim."""

    def __init__(self, queue: Queue, job_id: str, token: int) -> None:
        self.lost = threading.Event()
        self._queue, self._job_id, self._token = queue, job_id, token
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        looks_between = round(HEARTBEAT_SECONDS / _LOOK_SECONDS)
        looks = 0
        while not self._ended.wait(_LOOK_SECONDS):
            looks += 1
            try:
                if looks % looks_between == 0:
                    self._queue.renew(self._job_id, self._token)
                elif not self._queue.still_mine(self._job_id, self._token):
                    break
            except Stale:
                break
            except OperationalError:  # busy or full for now; the lease holds for two more heartbeats
                continue
        if not self._ended.is_set():
            self.lost.set()
