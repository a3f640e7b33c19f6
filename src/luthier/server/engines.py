"""The processes that answer: one for each base model, started when first asked for, ended when its room is needed.

Where the settings name a vLLM server, that one answers in their place.

All of this runs on the event loop but what waits for a process, which has threads of its own: a model that takes a
minute to load must not hold up the other requests.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
from anyio import CapacityLimiter, to_thread

from luthier.config.serving import ServeSettings
from luthier.core.hardware import usable_cores
from luthier.generate.client import EngineClient, EngineDied, EngineSpec
from luthier.generate.remote import RemoteEngine
from luthier.generate.request import QueueFull

_THREADS = 16
_KEY_VARIABLE = "LUTHIER_ENGINE_KEY"  # in no file, since settings are written down
Result = TypeVar("Result")
Engine = EngineClient | RemoteEngine


@dataclass(frozen=True, slots=True)
class Served:
    """What answers: a base model, and perhaps the folder of an adapter over it; `name` is what clients are told.

    `made` is when the weights of a tuned model were written, 0 where nobody writes them anew.
    """

    name: str
    base: str
    revision: str | None = None
    enable_thinking: bool | None = None
    adapter: Path | None = None
    made: int = 0


@dataclass
class _Engine:
    """What answers, how many requests it has, and when it had the last one."""

    client: Engine
    users: int = 0
    used: float = 0.0
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Tokens:
    """What has been read and written since the server started; `cached` is what was read but not computed."""

    prompt: int = 0
    cached: int = 0
    answer: int = 0


class Engines:
    """Lends engines to requests, and keeps them within the settings."""

    def __init__(self, serving: ServeSettings, log: Path) -> None:
        self._serving, self._log = serving, log
        self._threads = serving.engine_threads or max(1, usable_cores() // 2)
        self._engines: dict[EngineSpec, _Engine] = {}
        self._limiter: CapacityLimiter | None = None
        self._closed = False
        self.tokens = Tokens()

    async def figures(self) -> dict[str, int]:
        """Return what operators want to know: processes, requests, answers that are written, requests that wait, bytes."""
        told = {"processes": len(self._pids()), "bytes": self._num_bytes(), "requests": 0, "rows": 0, "waiting": 0}
        for engine in list(self._engines.values()):
            told["requests"] += engine.users
            if engine.client.pid is None or engine.starting.locked():
                continue
            with suppress(EngineDied):
                stats = await self.beside(engine.client.stats)
                told["rows"] += int(str(stats["running"]))
                told["waiting"] += int(str(stats["waiting"]))
        return told

    @asynccontextmanager
    async def lent(self, served: Served) -> AsyncGenerator[Engine]:
        """Lend the engine of a base model; raise ModelError if it cannot be loaded, QueueFull if there is no room."""
        if self._closed:
            raise QueueFull("the server is stopping.")
        ended = self._make_room(spec := self._spec(served))
        engine = self._engines.setdefault(spec, _Engine(self._engine(spec)))
        engine.users += 1
        try:
            for client in ended:
                await self.beside(client.close)
            await self._started(engine)
            yield engine.client
        finally:
            engine.users -= 1
            engine.used = time.monotonic()

    async def beside(self, work: Callable[[], Result]) -> Result:
        """Do what waits for an engine's process on a thread that nothing else needs."""
        self._limiter = self._limiter or CapacityLimiter(_THREADS)
        return await to_thread.run_sync(work, limiter=self._limiter)

    def close(self) -> None:
        """End all engines, for good."""
        self._closed = True
        for engine in self._engines.values():
            engine.client.close()
        self._engines.clear()

    def _engine(self, spec: EngineSpec) -> Engine:
        if self._serving.engine_url is None:
            return EngineClient(spec, log=self._log)
        return RemoteEngine(self._serving.engine_url, spec, key=os.environ.get(_KEY_VARIABLE, ""))

    def _spec(self, served: Served) -> EngineSpec:
        return EngineSpec(
            served.base, served.revision, enable_thinking=served.enable_thinking, threads=self._threads,
            max_rows=self._serving.answers, max_waiting=self._serving.waiting,
            adapter_bytes=self._serving.adapter_bytes, prefix_bytes=self._serving.prefix_bytes,
            made=0 if served.adapter is not None else served.made,
        )  # fmt: skip

    async def _started(self, engine: _Engine) -> None:
        """Start an engine that does not run, once for all who wait for it, and end idle ones if memory is short."""
        async with engine.starting:
            if engine.client.pid is not None:
                return
            await self.beside(engine.client.start)
        while self._num_bytes() > self._serving.engine_bytes and (idle := self._longest_idle()):
            await self.beside(self._engines.pop(idle).client.close)

    def _make_room(self, spec: EngineSpec) -> list[Engine]:
        """Take idle engines out of the table until one more fits; return those to be ended."""
        ended: list[Engine] = []
        while spec not in self._engines and len(self._engines) >= self._serving.engines:
            idle = self._longest_idle()
            if idle is None:
                raise QueueFull("every model that is in memory is answering, and there is no room for another.")
            ended.append(self._engines.pop(idle).client)
        return ended

    def _longest_idle(self) -> EngineSpec | None:
        idle = [spec for spec, engine in self._engines.items() if not engine.users]
        return min(idle, key=lambda spec: self._engines[spec].used, default=None)

    def _pids(self) -> list[int]:
        return [pid for engine in self._engines.values() if (pid := engine.client.pid) is not None]

    def _num_bytes(self) -> int:
        return sum(map(_memory, self._pids()))


def _memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
