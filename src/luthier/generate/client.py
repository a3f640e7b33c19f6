"""The parent's side of an engine in a process of its own; imports no torch.

The process starts with the first request and is started again by the next one after it died. A request that was
being answered then ends with EngineDied: it is for the caller to ask again, since half an answer may have been shown.
"""

import itertools
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Protocol, cast

from luthier.core.errors import LuthierError, RunFailed
from luthier.core.hardware import usable_cores
from luthier.core.threads import child_environment
from luthier.core.types import JsonObject
from luthier.generate.request import Delta, Finished, Sampling, ToolChoice
from luthier.generate.wire import error_from_json, event_from_json, read_lines, write_line

_COMMAND = (sys.executable, "-m", "luthier.generate.worker")
_SECONDS_TO_STOP = 5.0


class EngineDied(RunFailed):
    """The engine's process ended, or said nothing for too long and was ended."""


class Inbox(Protocol):
    """Where the messages of an answer go; `put` is called from a thread of the client's."""

    def put(self, message: JsonObject | LuthierError, /) -> None:
        """Take a message, or the error that came in its place; never wait."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which base model the process loads, and its limits; what is None is chosen by whether there is a GPU.

    `made` tells a folder apart from an earlier one of the same name, which a process may still have in memory.
    """

    name: str = "starter"
    revision: str | None = None
    dtype: str | None = None
    device: str | None = None
    enable_thinking: bool | None = None
    threads: int | None = None
    max_rows: int = 16
    max_waiting: int = 64
    prefix_bytes: int = 256 << 20
    adapter_bytes: int = 1 << 30
    made: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A conversation, or a plain `prompt`, and how to answer it; `constraint` as the worker's `constraint_from_json`.

    With a `tool_choice` calls of the tools are read out of the answer; without one they are text. Where `adapter_folder` is given, an adapter that is not in memory is loaded from there first.
    """

    messages: Sequence[JsonObject] = ()
    prompt: str | None = None
    tools: Sequence[JsonObject] = ()
    tool_choice: ToolChoice | None = None
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str | None = None
    adapter_folder: Path | None = None
    constraint: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one choice, and its content without reasoning and control tokens."""

    finished: Finished
    content: str


class Owner(Protocol):
    """What an answer asks of who got the request."""

    heard: float
    silence_seconds: float

    def tell(self, message: JsonObject) -> None:
        """Send what needs no answer."""
        ...

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """End a process that said nothing for too long."""
        ...


class Answer:
    """What comes back for one request: iterate over it for pieces and ends, or `read` what came into another inbox."""

    def __init__(
        self, client: Owner, name: str, choices: int, process: "subprocess.Popen[bytes] | None",
        inbox: Inbox | None = None,
    ) -> None:  # fmt: skip
        self.id, self.choices, self.process = name, choices, process
        self._client, self._open, self._since = client, choices, time.monotonic()
        self._queue: queue.SimpleQueue[JsonObject | LuthierError] = queue.SimpleQueue()
        self.inbox: Inbox = self._queue if inbox is None else inbox

    def __iter__(self) -> Iterator[Delta | Ended]:
        """Yield what happens until every choice has ended; raise what went wrong."""
        while self.is_open:
            yield self.read(self._next())

    @property
    def is_open(self) -> bool:
        """Whether a choice has not ended yet."""
        return self._open > 0

    def read(self, message: JsonObject | LuthierError) -> Delta | Ended:
        """Return what a message tells; raise what went wrong, after which nothing follows."""
        try:
            event = event_from_json(message := _said(message))
            if not isinstance(event, Finished):
                return event
            if event.error is not None:
                raise RunFailed(event.error)
        except LuthierError:
            self._open = 0
            raise
        self._open -= 1
        return Ended(event, str(message["content"]) if "content" in message else "")

    def take(self) -> JsonObject:
        """Wait for the next message; raise the error that came in its place, or EngineDied after a long silence."""
        return _said(self._next())

    def loaded(self, seconds: float) -> JsonObject:
        """Wait for the first message of a process; raise queue.Empty when it has not come in time."""
        return _said(self._queue.get(timeout=seconds))

    def cancel(self) -> None:
        """Free the request's rows; the ends still come."""
        self._client.tell({"do": "cancel", "id": self.id})

    def patience(self) -> float:
        """Return for how many seconds more to wait: the process must say something, to anybody, since a request may
        wait its turn for long."""
        return self._client.silence_seconds - (time.monotonic() - max(self._since, self._client.heard))

    def give_up(self) -> EngineDied:
        """End the process that said nothing for too long; return the error of its requests."""
        if self.process is not None:
            self._client.kill(self.process)
        return EngineDied(f"the engine said nothing for {self._client.silence_seconds:g} s and was ended. Ask again.")

    def _next(self) -> JsonObject | LuthierError:
        self._since = time.monotonic()
        while True:
            try:
                return self._queue.get(timeout=max(0.0, self.patience()))
            except queue.Empty:
                if self.patience() <= 0:
                    raise self.give_up() from None


class EngineClient:
    """Starts, watches and asks an engine's process; safe to use from several threads."""

    def __init__(
        self, spec: EngineSpec, *, start_seconds: float = 180.0, silence_seconds: float = 120.0, log: Path | None = None
    ) -> None:
        self._spec, self._start_seconds, self.silence_seconds, self._log = spec, start_seconds, silence_seconds, log
        self.heard = time.monotonic()
        # Starting holds the first lock until the model is loaded; a process that dies meanwhile needs the second.
        self._lock, self._table = threading.RLock(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: dict[str, Answer] = {}
        self._adapters: dict[str, Path] = {}
        self._numbers = itertools.count()

    def start(self) -> None:
        """Start the process where it does not run; raise ModelError for a model that cannot be loaded."""
        with self._lock:
            if self.pid is None:
                self._start()

    def ask(self, ask: Ask, inbox: Inbox | None = None) -> Answer:
        """Send a request to the engine, starting it where it does not run; its errors come with the answer."""
        message: JsonObject = {
            "do": "submit", "messages": [dict(one) for one in ask.messages], "prompt": ask.prompt,
            "tools": [dict(one) for one in ask.tools], "sampling": cast(JsonObject, asdict(ask.sampling)),
            "adapter": ask.adapter, "adapter_path": None if ask.adapter_folder is None else str(ask.adapter_folder),
            "constraint": ask.constraint,
            "tool_choice": None if ask.tool_choice is None else cast(JsonObject, asdict(ask.tool_choice)),
        }  # fmt: skip
        return self._send(message, ask.sampling.n, inbox)

    def adapter(self, name: str, folder: Path) -> None:
        """Load an adapter, now and whenever the process is started again; raise ModelError where it cannot be."""
        self._send({"do": "adapter", "name": name, "path": str(folder)}, 1).take()
        self._adapters[name] = folder

    def stats(self) -> JsonObject:
        """Return the engine's counts and bytes."""
        return cast(JsonObject, self._send({"do": "stats"}, 1).take()["stats"])

    @property
    def pid(self) -> int | None:
        """The process that runs, if one does."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def tell(self, message: JsonObject) -> None:
        """Send what needs no answer; a process that has died needs it no more."""
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                try:
                    write_line(self._process.stdin, message)
                except (BrokenPipeError, ValueError):
                    return

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """End a process at once, so that the next request starts another; all its requests end with EngineDied."""
        with self._lock:
            if self._process is process:
                self._process = None
        process.kill()

    def close(self) -> None:
        """Let the process stop, or end it after some seconds."""
        with self._lock:
            process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        try:
            write_line(process.stdin, {"do": "stop"})
            process.stdin.close()
        except (BrokenPipeError, ValueError):
            pass
        _wait_or_kill(process)

    def _send(self, message: JsonObject, choices: int, inbox: Inbox | None = None) -> Answer:
        with self._lock:
            self.start()
            process = self._process
            assert process is not None
            answer = Answer(self, str(next(self._numbers)), choices, process, inbox)
            with self._table:
                self._answers[answer.id] = answer
            self.tell({**message, "id": answer.id})
            if process.poll() is not None:
                self._end_all(process)
        return answer

    def _start(self) -> None:
        """Start the process, load the model and the adapters; raise what it could not do."""
        log = None if self._log is None else self._log.open("ab")
        environment = {**child_environment(self._spec.threads or usable_cores()), "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment)
        if log is not None:
            log.close()
        self._process = process
        assert process.stdout is not None
        first = Answer(self, "", 1, process)
        threading.Thread(target=self._read, args=(process, process.stdout, first), daemon=True).start()
        self.tell({"do": "load", **cast(JsonObject, asdict(self._spec))})
        try:
            self._await_load(first)
        except LuthierError:
            self.kill(process)
            raise
        for name, folder in self._adapters.items():
            self._send({"do": "adapter", "name": name, "path": str(folder)}, 1).take()

    def _await_load(self, first: Answer) -> None:
        try:
            loaded = first.loaded(self._start_seconds)
        except queue.Empty:
            raise EngineDied(f"the engine has not loaded {self._spec.name} within {self._start_seconds:g} s.") from None
        if loaded["tell"] == "failed":
            raise error_from_json(loaded["error"])

    def _read(self, process: "subprocess.Popen[bytes]", pipe: IO[bytes], first: Answer) -> None:
        """Hand what the process says to whom it concerns, until it ends."""
        try:
            for message in read_lines(pipe):
                self.heard = time.monotonic()
                if message["tell"] in ("loaded", "failed"):
                    first.inbox.put(message)
                else:
                    self._hand_over(message)
        finally:
            _wait_or_kill(process)
            first.inbox.put(EngineDied(f"the engine's process ended with {process.returncode} while it loaded."))
            self._end_all(process)

    def _hand_over(self, message: JsonObject) -> None:
        with self._table:
            answer = self._answers.get(str(message["id"]))
            if answer is None:
                return
            answer.inbox.put(message)
            answer.choices -= message["tell"] != "delta"
            if not answer.choices or message["tell"] == "refused":
                del self._answers[answer.id]

    def _end_all(self, process: "subprocess.Popen[bytes]") -> None:
        """End the requests that a process leaves unanswered."""
        with self._table:
            left = [answer for answer in self._answers.values() if answer.process is process]
            for answer in left:
                del self._answers[answer.id]
                code = process.returncode
                answer.inbox.put(EngineDied(f"the engine's process ended ({code}) before the answer did. Ask again."))


def _said(message: JsonObject | LuthierError) -> JsonObject:
    """Return a message that is no error; raise one that is."""
    if isinstance(message, LuthierError):
        raise message
    if message["tell"] == "refused":
        raise error_from_json(message["error"])
    return message


def _wait_or_kill(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a process that is about to end; one that does not is ended."""
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
