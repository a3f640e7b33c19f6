"""An engine's answer as the event loop reads it, and its errors as clients are told them."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial

from luthier.core.errors import DataError, LuthierError, ModelError, SettingsError
from luthier.core.hashing import text_hash
from luthier.core.types import JsonObject
from luthier.generate.client import Answer, Ask, Ended, EngineDied
from luthier.generate.request import Delta, Finished, PromptTooLong, QueueFull, ToolChoiceRefused, ToolsRefused
from luthier.server.engines import Engine, Engines, Served, Tokens
from luthier.server.errors import ApiError

log = logging.getLogger(__name__)

_BUSY_SECONDS = 1
_NAME_LENGTH = 32


async def events(engines: Engines, served: Served, ask: Ask) -> AsyncGenerator[Delta | Ended]:
    """Ask a model and yield what happens; whoever stops reading frees the request's place. Raises LuthierError."""
    if served.adapter is not None:  # a name that PEFT can give to a layer, and that is another for another folder
        name = text_hash(f"{served.made} {served.adapter}")[:_NAME_LENGTH]
        ask = replace(ask, adapter=name, adapter_folder=served.adapter)
    async with engines.lent(served) as client, aclosing(_told(engines, client, ask)) as told:
        async for event in told:
            if isinstance(event, Ended):
                _count(engines.tokens, event.finished)
            yield event


def api_error(error: LuthierError, model: str) -> ApiError:
    """Return what a client is told of an engine's error; what only the operator can mend goes to the log."""
    match error:
        case ApiError():
            return error
        case QueueFull():
            return ApiError(429, str(error), code="queue_full", retry_after=_BUSY_SECONDS)
        case PromptTooLong():
            return ApiError(400, str(error), param="messages", code="context_length_exceeded")
        case ToolChoiceRefused():
            return ApiError(400, f"Invalid 'tool_choice': {error}", param="tool_choice", code="not_supported")
        case ToolsRefused():
            return ApiError(400, f"Invalid 'tools': {error}", param="tools", code="invalid_value")
        case SettingsError():  # of all that is asked for, an engine looks at the constraint alone
            return ApiError(400, str(error), param="response_format", code="invalid_value")
        case DataError():
            return ApiError(400, str(error), code="invalid_request")
        case EngineDied():
            log.error("the engine of %s died: %s", model, error)
            return ApiError(503, str(error), code="engine_died", retry_after=_BUSY_SECONDS)
        case ModelError():
            log.error("the model %s cannot be served: %s", model, error)
            message = f"The model {model!r} cannot be loaded; the server's log says why."
            return ApiError(503, message, param="model", code="model_unavailable")
        case _:
            log.error("an answer of %s failed: %s", model, error)
            return ApiError(500, f"The answer failed: {error}", code="generation_failed")


def _count(tokens: Tokens, finished: Finished) -> None:
    if finished.choice == 0:  # the other choices share its prompt
        tokens.prompt += finished.tokens_in
        tokens.cached += finished.cached
    tokens.answer += len(finished.ids)


async def _told(engines: Engines, client: Engine, ask: Ask) -> AsyncGenerator[Delta | Ended]:
    inbox = _Inbox()
    answer = await engines.beside(partial(client.ask, ask, inbox))
    try:
        while answer.is_open:
            yield answer.read(await inbox.next(answer))
    finally:
        if answer.is_open:  # not awaited: the pipe may be busy, and who left does not wait for it
            asyncio.get_running_loop().run_in_executor(None, answer.cancel)


class _Inbox:
    """Hands the messages of an engine's thread to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[JsonObject | LuthierError] = asyncio.Queue()

    def put(self, message: JsonObject | LuthierError) -> None:
        """Take a message; a server that has stopped needs none."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, message)

    async def next(self, answer: Answer) -> JsonObject | LuthierError:
        """Wait for the next message, but not for an engine that has fallen silent."""
        while True:
            try:
                async with asyncio.timeout(max(0.0, answer.patience())):
                    return await self._queue.get()
            except TimeoutError:
                if answer.patience() <= 0:
                    return await asyncio.to_thread(answer.give_up)
