"""Answers on their way to a client: as one JSON document or as server-sent events, for as long as it listens.

Until the first piece is there, an error is an answer with its own status. After it, an error is an event of the stream,
as the client expects it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from luthier.core.errors import LuthierError
from luthier.core.types import JsonObject
from luthier.generate.client import Ended
from luthier.generate.request import Delta
from luthier.server.answering import api_error
from luthier.server.chat_wire import Form, Usage, Written

Events = AsyncGenerator[Delta | Ended]
_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


class Reply(Response):
    """Sends what an engine writes; a client that leaves ends the writing."""

    def __init__(self, model: str, events: Callable[[], Events], form: Form, choices: int) -> None:
        super().__init__()
        self._model, self._events, self._form = model, events, form
        self._choices = [Written() for _ in range(choices)]
        self._usage = Usage()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, until it ends or the client has left."""
        work = asyncio.ensure_future(self._send(scope, receive, send))
        gone = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    async def whole(self) -> JsonObject:
        """Return the answer once it has ended; raise ApiError."""
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    self._note(event)
        except LuthierError as error:
            raise api_error(error, self._model) from error
        return self._form.whole(self._choices, self._usage)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(await self.whole())(scope, receive, send)

    def _note(self, event: Delta | Ended) -> None:
        if isinstance(event, Ended):
            self._choices[event.finished.choice].reason = event.finished.reason
            self._usage.add(event)
        else:
            self._choices[event.choice].add(event)


class Stream(Reply):
    """Sends an answer in pieces, as they are written."""

    def __init__(self, model: str, events: Callable[[], Events], form: Form, choices: int, include_usage: bool) -> None:
        super().__init__(model, events, form, choices)
        self._include_usage = include_usage

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if not begun:
                        await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
                        begun = True
                        await self._tell(send, *self._openings())
                    await self._tell(send, *self._pieces(event))
                    self._note(event)
        except LuthierError as error:
            if not begun:
                raise api_error(error, self._model) from error
            await _write(send, api_error(error, self._model).body())
        else:
            if self._include_usage:
                await _write(send, self._form.chunk([], self._usage.as_json()))
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _openings(self) -> list[JsonObject]:
        openings = [self._form.opening(choice) for choice in range(len(self._choices))]
        return [opening for opening in openings if opening is not None]

    def _pieces(self, event: Delta | Ended) -> list[JsonObject]:
        if isinstance(event, Ended):
            return [self._form.end(event)]
        return self._form.pieces(event, self._choices[event.choice])

    async def _tell(self, send: Send, *choices: JsonObject) -> None:
        for choice in choices:
            await _write(send, self._form.chunk([choice], None))


async def _write(send: Send, event: JsonObject) -> None:
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})


async def _left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
