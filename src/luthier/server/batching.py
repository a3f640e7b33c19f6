"""The work on batches: a task of the server that asks the engines, beside the clients that wait for their answers.

What has been answered lies in two journals in the batch's folder, a line a request, in the form in which its owner gets
them. They are all that a restart needs: what is in one of them is not asked again. The journals, the database and the
settings are all that is shared with the handlers, so a cancellation is seen within half a second.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import chain

from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool

from luthier.core.errors import RunFolderError
from luthier.core.journal import Journal, entries
from luthier.core.types import JsonObject, JsonValue
from luthier.jobs.batch_files import place_results
from luthier.jobs.batch_input import Item, Limits, examine, items
from luthier.jobs.batches import ERRORS, INPUT, OUTPUT, Batches, Progress
from luthier.jobs.files import Files
from luthier.jobs.folder import DataFolder
from luthier.jobs.records import BatchRecord, BatchStatus, new_id, now
from luthier.server.errors import ApiError

log = logging.getLogger(__name__)

Answer = Callable[[str, str, JsonObject], Awaitable[JsonObject]]
_LOOK_SECONDS = 0.5
_REST_SECONDS = 10.0
_TIDY_SECONDS = 3600.0
_MOST_AT_WORK = 16
_MOST_TRIES = 3
_MAY_PASS = (OSError, OperationalError, RunFolderError)  # the disk is full or busy
_EXPIRED: JsonObject = {
    "code": "batch_expired", "message": "The request was not answered before the batch's completion window ended.",
}  # fmt: skip


class Batcher:
    """Works on the unfinished batches, the oldest ones first; `at_once` requests of all of them are answered at a time.

    `answer` takes a project, an endpoint and a body, and returns what the endpoint answers or raises ApiError.
    """

    def __init__(
        self, batches: Batches, files: Files, folder: DataFolder, answer: Answer, at_once: int, limits: Limits
    ) -> None:
        self.batches, self.files, self.folder, self.answer, self.limits = batches, files, folder, answer, limits
        self.at_once, self.free = at_once, asyncio.Semaphore(at_once)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._tidy_due = time.monotonic()

    async def run(self) -> None:
        """Work until cancelled; what is not finished then is gone on with by the next server."""
        try:
            while True:
                try:
                    await self._look()
                except (OSError, OperationalError):  # it may pass
                    log.exception("batches could not be looked after; the next look is in %s s", _LOOK_SECONDS)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await _ended(*self._tasks.values())

    async def _look(self) -> None:
        await self._look_back()
        if time.monotonic() >= self._tidy_due:
            await run_in_threadpool(self.batches.forget_ended)
            self._tidy_due = time.monotonic() + _TIDY_SECONDS
        for batch in await run_in_threadpool(self.batches.unfinished):
            if self._may_start(batch):
                self._tasks[batch.id] = asyncio.create_task(_Work(self, batch).walk())

    def _may_start(self, batch: BatchRecord) -> bool:
        resting = self._resting.get(batch.id, 0.0) > time.monotonic()
        return batch.id not in self._tasks and len(self._tasks) < _MOST_AT_WORK and not resting

    async def _look_back(self) -> None:
        """Let a batch whose work broke off rest; end it when that is not the machine's fault and happens again."""
        for batch_id, task in [(batch_id, task) for batch_id, task in self._tasks.items() if task.done()]:
            del self._tasks[batch_id]
            error = task.exception()
            if error is None:
                continue
            log.error("the work on %s broke off; it rests for %s s", batch_id, _REST_SECONDS, exc_info=error)
            self._resting[batch_id] = time.monotonic() + _REST_SECONDS
            if not isinstance(error, _MAY_PASS):
                self._failures[batch_id] = self._failures.get(batch_id, 0) + 1
            if self._failures.get(batch_id, 0) >= _MOST_TRIES:
                message = "The server failed to work on the batch; its log says why."
                told: JsonObject = {"code": "internal_error", "message": message, "line": None, "param": None}
                await run_in_threadpool(self.batches.refuse, batch_id, [told])


class _Work:
    """One batch on its way to its end."""

    def __init__(self, batcher: Batcher, batch: BatchRecord) -> None:
        self._batcher, self._batch = batcher, batch
        self._place = batcher.folder.batch(batch.id)
        self._done = Progress()
        self._noted = 0.0

    async def walk(self) -> None:
        """Look at the batch's file, ask what has not been answered, and publish the answers."""
        batcher, batch = self._batcher, self._batch
        if batch.status == "validating":
            found = await run_in_threadpool(examine, self._place / INPUT, batch.endpoint, batcher.limits)
            if found.errors:
                await run_in_threadpool(batcher.batches.refuse, batch.id, found.errors)
                return
            if not await run_in_threadpool(batcher.batches.begin, batch.id, found.total, found.model):
                return  # cancelled meanwhile; the next look ends it
            self._done = Progress(found.total)
        answered = await run_in_threadpool(self._remember)
        with Journal(self._place / OUTPUT) as output, Journal(self._place / ERRORS) as errors:
            left = (item for item in self._items() if item.custom_id not in answered)
            status = "cancelled" if batch.status == "cancelling" else await self._ask(left, output, errors)
            if status == "expired":
                await self._give_up(errors)
            output.sync()
            errors.sync()
        files = await run_in_threadpool(place_results, batcher.files, batcher.folder, batch)
        await run_in_threadpool(batcher.batches.end, batch.id, status, self._done, *files)

    async def _ask(self, left: Iterator[Item], output: Journal, errors: Journal) -> BatchStatus:
        """Ask until all is answered, or the batch is cancelled or expires; return how it ended."""
        asking = asyncio.create_task(self._ask_all(left, output, errors))
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait((asking, watching), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return watching.result()
            asking.result()
            return "completed"
        finally:
            await _ended(asking, watching)

    async def _ask_all(self, left: Iterator[Item], output: Journal, errors: Journal) -> None:
        askers = [asyncio.create_task(self._asker(left, output, errors)) for _ in range(self._batcher.at_once)]
        try:
            done, _ = await asyncio.wait(askers, return_when=asyncio.FIRST_EXCEPTION)
            for asker in done:
                asker.result()
        finally:
            await _ended(*askers)

    async def _asker(self, left: Iterator[Item], output: Journal, errors: Journal) -> None:
        for item in left:
            request_id = new_id("req_")
            try:
                body, status = await self._answered(item.body), 200
            except ApiError as error:
                body, status = error.body(), error.status
            response: JsonObject = {"status_code": status, "request_id": request_id, "body": body}
            line: JsonObject = {
                "id": new_id("batch_req_"),
                "custom_id": item.custom_id,
                "response": response,
                "error": None,
            }
            self._keep(output if status == 200 else errors, line)
            if time.monotonic() >= self._noted + _LOOK_SECONDS:
                self._noted = time.monotonic()
                await run_in_threadpool(self._batcher.batches.note, self._batch.id, self._done)

    async def _answered(self, body: JsonObject) -> JsonObject:
        """Return the answer to a request; wait while the engine has no room, try again when it died."""
        tries = 0
        while True:
            try:
                async with self._batcher.free:
                    return await self._batcher.answer(self._batch.project_id, self._batch.endpoint, body)
            except ApiError as error:
                tries += error.status != 429
                if error.retry_after is None or tries >= _MOST_TRIES:
                    raise
                await asyncio.sleep(error.retry_after)

    async def _watch(self) -> BatchStatus:
        """Return how a batch ends before its time, when it does."""
        while now() < self._batch.expires_at:
            if await run_in_threadpool(self._batcher.batches.status, self._batch.id) == "cancelling":
                return "cancelled"
            await asyncio.sleep(_LOOK_SECONDS)
        return "expired"

    async def _give_up(self, errors: Journal) -> None:
        """Tell of each request that nobody has answered why."""
        answered = await run_in_threadpool(self._remember)
        for item in self._items():
            if item.custom_id not in answered:
                line: JsonObject = {
                    "id": new_id("batch_req_"), "custom_id": item.custom_id, "response": None, "error": _EXPIRED,
                }  # fmt: skip
                self._keep(errors, line)

    def _keep(self, journal: Journal, line: JsonObject) -> None:
        """Append a line; not on a thread, where a cancellation would leave it half written."""
        journal.write(line)
        self._done = _counted(self._done, line)

    def _items(self) -> Iterator[Item]:
        return items(self._place / INPUT, self._batch.endpoint, self._batcher.limits)

    def _remember(self) -> set[str]:
        """Return which requests the journals hold, and count them anew."""
        known = set[str]()
        self._done = Progress(self._done.total or int(str(self._batch.counts["total"])))
        for line in chain(entries(self._place / OUTPUT), entries(self._place / ERRORS)):
            known.add(str(line["custom_id"]))
            self._done = _counted(self._done, line)
        return known


async def _ended(*tasks: asyncio.Task[BatchStatus | None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _counted(done: Progress, line: JsonObject) -> Progress:
    response = line["response"]
    if not isinstance(response, dict) or response["status_code"] != 200:
        return replace(done, failed=done.failed + 1)
    usage = _part(_part(response, "body"), "usage")
    return replace(
        done, completed=done.completed + 1, tokens_in=done.tokens_in + _number(usage, "prompt_tokens"),
        cached=done.cached + _number(_part(usage, "prompt_tokens_details"), "cached_tokens"),
        tokens_out=done.tokens_out + _number(usage, "completion_tokens"),
    )  # fmt: skip


def _part(value: JsonValue, name: str) -> JsonObject:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _number(value: JsonObject, name: str) -> int:
    return int(str(value.get(name) or 0))
