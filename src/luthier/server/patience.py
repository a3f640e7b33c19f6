"""A connection that has sent no whole request head in time is closed, so that half-open ones do not add up."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol, made to wait no longer than `seconds` for a connection's first request."""

    class Patient(H11Protocol):
        """Closes what does not begin to speak."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(seconds, self._close_if_silent)

        def _close_if_silent(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Patient
