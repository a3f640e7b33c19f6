"""A chat template, rendered in a process of its own: it comes with a model, loops as it likes, and takes what it can.

The process is a copy of the one that asks, made by `fork`, so that the template renders exactly as transformers renders it.
It has no file, pipe or socket of that one but the two through which it is asked. The system ends it when a rendering
computes for too long, and it may take only so much more memory; another copy is ready for the next conversation. Many
conversations go through the pipe in one message, as a training asks for thousands.
"""

import json
import os
import resource
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from jinja2 import TemplateError

from luthier.data.asked import Asked, BeyondLimits, rendered

SECONDS = 1.0
MORE_BYTES = 256 << 20
LONGEST_TEXT = 4 << 20  # more than what it was given
_MESSAGE_CHARACTERS = 1 << 20
_LONGEST_FAULT = 500
_MOST_FILES = 1 << 16
_REFUSALS = (
    TemplateError,
    TypeError,
    KeyError,
    ValueError,
    RecursionError,
    AttributeError,
    ArithmeticError,
    LookupError,
)


class Templates:
    """Renders conversations by `apply`, a tokenizer's `apply_chat_template`, within limits."""

    def __init__(self, apply: Callable[..., object], seconds: float = SECONDS) -> None:
        asking, ask = os.pipe()
        answer, answering = os.pipe()
        self._seconds = seconds
        self.pid = os.fork()
        if not self.pid:
            _keep_only(asking, answering)
            _keep_rendering(apply, seconds)
        os.close(asking)
        os.close(answering)
        self._questions, self._answers = os.fdopen(ask, "wb"), os.fdopen(answer, "rb")
        self._one_at_a_time = threading.Lock()
        self.close = weakref.finalize(self, _end, self.pid, self._questions, self._answers)

    def __call__(self, many: Sequence[Asked]) -> list[str | TemplateError]:
        """Return each text, or a TemplateError for a conversation that the template refuses.

        Raises BeyondLimits for a template that takes more than it may; it does not tell for which conversation.
        """
        return [text for message in _messages(many) for text in self._rendered(message)]

    def _rendered(self, message: bytes) -> list[str | TemplateError]:
        with self._one_at_a_time:
            self._questions.write(message)
            self._questions.flush()
            answers = json.loads(self._answers.readline())
        return [self._read(kind, text) for kind, text in answers]

    def _read(self, kind: str, text: str) -> str | TemplateError:
        if kind == "text":
            return text
        if kind == "refused":
            return TemplateError(text)
        raise BeyondLimits(
            f"the model's chat template goes beyond its limits ({self._seconds:g} s, {MORE_BYTES >> 20} MB, "
            f"{LONGEST_TEXT:,} characters): {text}. Put another template into the model's folder."
        )


def _messages(many: Sequence[Asked]) -> Iterator[bytes]:
    """Write what is asked as lists of JSON, each a line that is not much longer than a message may be."""
    waiting, size = list[str](), 0
    for asked in many:
        waiting.append(json.dumps(asked))
        size += len(waiting[-1])
        if size >= _MESSAGE_CHARACTERS:
            yield f"[{','.join(waiting)}]\n".encode()
            waiting, size = [], 0
    if waiting:
        yield f"[{','.join(waiting)}]\n".encode()


def _end(pid: int, questions: BinaryIO, answers: BinaryIO) -> None:
    """End the process; called where its owner is let go, too."""
    questions.close()
    answers.close()
    os.waitpid(pid, 0)


def _keep_only(asking: int, answering: int) -> None:
    """Close what the engine has open, and go on with the questions as standard input and the answers as output."""
    os.dup2(asking, 0)
    os.dup2(answering, 1)
    os.closerange(3, min(_MOST_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


def _keep_rendering(apply: Callable[..., object], seconds: float) -> NoReturn:
    """Have a copy of this process render until it is ended by the system, say so in its place, and go on with another."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's signal is for the engine
        while True:
            renderer = os.fork()
            if not renderer:
                _limit_memory()
                _render_all(apply, seconds)
            _, status = os.waitpid(renderer, 0)
            if os.waitstatus_to_exitcode(status) == 0:
                break
            what = "it took too long" if os.waitstatus_to_exitcode(status) == -signal.SIGPROF else "its process ended"
            os.write(1, json.dumps([["ended", what]]).encode() + b"\n")
    finally:
        os._exit(0)


def _render_all(apply: Callable[..., object], seconds: float) -> NoReturn:
    """Answer questions until there are none."""
    code = 1
    try:
        with os.fdopen(0, "rb", closefd=False, buffering=0) as questions:
            while question := _line(questions):
                found = [_limited(apply, Asked(*one), seconds) for one in json.loads(question)]
                with os.fdopen(1, "wb", closefd=False) as answers:
                    answers.write(json.dumps(found).encode() + b"\n")
        code = 0
    finally:
        os._exit(code)


def _limited(apply: Callable[..., object], asked: Asked, seconds: float) -> tuple[str, str]:
    """Render one conversation; SIGPROF, which nothing here handles, ends the process when it takes too long."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        text = rendered(apply, asked)
    except MemoryError:
        return "ended", "it took too much memory"
    except _REFUSALS as error:
        return "refused", str(error)[:_LONGEST_FAULT]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if len(text) <= LONGEST_TEXT or len(text) <= LONGEST_TEXT + len(json.dumps(asked)):  # most texts are short
        return "text", text
    return "ended", f"it wrote {len(text):,} characters"


def _line(stream: BinaryIO) -> bytes:
    """Return one question; unbuffered, so that nothing of the next one is lost when this process is ended."""
    parts: list[bytes] = []
    while part := stream.read(1 << 16):
        parts.append(part)
        if part.endswith(b"\n"):
            break
    return b"".join(parts)


def _limit_memory() -> None:
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MORE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
