"""How long a connection may say nothing, and how it ends: half-open ones do not add up, and no answer is lost.

A connection has a limited time for its first request head, and for whatever it begins behind an answer. One that is closed
while its client still sends is first shut on our side alone, and the rest of the request is read and thrown away: closing
it outright would reset it, and a reset wipes out an answer that the client has not read yet.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_LINGER_SECONDS = 2.0


class Lingering(asyncio.Transport):
    """A connection whose `close` ends only our side while the client is still sending."""

    def __init__(self, transport: asyncio.Transport, connection: h11.Connection) -> None:
        super().__init__()
        self._transport, self._connection, self._shut = transport, connection, False

    def close(self) -> None:
        """Send what there is to send; close at once, or hear the client out for a while first."""
        if self.is_closing():
            return
        if self._connection.their_state not in (h11.SEND_BODY, h11.ERROR):
            self._transport.close()
            return
        self._shut = True
        self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.close)

    def is_closing(self) -> bool:
        """Tell whether nothing more is to be sent or handled."""
        return self._shut or self._transport.is_closing()

    def abort(self) -> None:
        """Close without sending what is left."""
        self._transport.abort()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, unless our side has ended."""
        if not self._shut:
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._shut:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what the connection knows of itself, such as the addresses of both sides."""
        return self._transport.get_extra_info(name, default)


def protocol(seconds: float, most_unread_bytes: int) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol, which waits no longer than `seconds` for a request that has begun.

    Of a request that was answered before it was whole it reads `most_unread_bytes` more, and then closes.
    """

    class Patient(H11Protocol):
        """Closes what does not speak, and answers before it closes."""

        # uvicorn says Transport too, where asyncio's own protocol takes any kind.
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(Lingering(transport, self.conn))
            self._unread_bytes = 0
            self._expect_request(seconds)

        def data_received(self, data: bytes) -> None:
            if self.conn.our_state is h11.DONE or self.transport.is_closing():
                self._unread_bytes += len(data)
                if self._unread_bytes > most_unread_bytes:
                    self.transport.abort()
            if not self.transport.is_closing():
                super().data_received(data)

        def on_response_complete(self) -> None:
            self._unread_bytes = 0
            self._expect_request(max(seconds, self.timeout_keep_alive))
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                super().send_400_response(msg)
            else:  # an answer is there or on its way, and nothing can be said behind it
                self.transport.close()
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.disconnected = True
                self.cycle.message_event.set()

        def _expect_request(self, within: float) -> None:
            self.loop.call_later(within, self._close_if_silent, self.cycle)

        def _close_if_silent(self, last: object) -> None:
            if self.cycle is last and not self.transport.is_closing():
                self.transport.close()

    return Patient
