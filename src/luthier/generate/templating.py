"""A chat template, rendered in a process of its own: it comes with a model, loops as it likes, and takes what it can.

The process is a copy of the engine's made by `fork`, so that the template renders exactly as transformers renders it. It has
no file, pipe or socket of the engine but the two through which it is asked. The system ends it when a rendering
computes for too long, and it may take only so much more memory; another copy is ready for the next conversation.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NoReturn

from jinja2 import TemplateError

from luthier.core.errors import ModelError

SECONDS = 1.0
MORE_BYTES = 256 << 20
LONGEST_TEXT = 4 << 20
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
        asking, self._ask = os.pipe()
        self._answer, answering = os.pipe()
        self._seconds = seconds
        self.pid = os.fork()
        if not self.pid:
            _keep_only(asking, answering)
            _keep_rendering(apply, seconds)
        os.close(asking)
        os.close(answering)
        self._questions, self._answers = os.fdopen(self._ask, "wb"), os.fdopen(self._answer, "rb")

    def __call__(self, messages: object, **options: object) -> str:
        """Render as `apply_chat_template(messages, **options)` does.

        Raises TemplateError for a conversation that the template refuses, ModelError for a template that goes beyond its limits.
        """
        question = json.dumps([messages, options]).encode() + b"\n"
        self._questions.write(question)
        self._questions.flush()
        kind, text = json.loads(self._answers.readline())
        if kind == "text":
            return text
        if kind == "refused":
            raise TemplateError(text)
        raise ModelError(
            f"the model's chat template goes beyond its limits ({self._seconds:g} s, {MORE_BYTES >> 20} MB, "
            f"{LONGEST_TEXT:,} characters): {text}. Put another template into the model's folder."
        )

    def close(self) -> None:
        """End the process."""
        self._questions.close()
        self._answers.close()
        os.waitpid(self.pid, 0)


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
            os.write(1, json.dumps(["ended", what]).encode() + b"\n")
    finally:
        os._exit(0)


def _render_all(apply: Callable[..., object], seconds: float) -> NoReturn:
    """Answer questions until there are none; SIGPROF, which nothing here handles, ends the process."""
    code = 1
    try:
        with os.fdopen(0, "rb", closefd=False, buffering=0) as questions:
            while question := _line(questions):
                signal.setitimer(signal.ITIMER_PROF, seconds)
                answer = json.dumps(_rendered(apply, question)).encode() + b"\n"
                signal.setitimer(signal.ITIMER_PROF, 0)
                with os.fdopen(1, "wb", closefd=False) as answers:
                    answers.write(answer)
        code = 0
    finally:
        os._exit(code)


def _rendered(apply: Callable[..., object], question: bytes) -> tuple[str, str]:
    messages, options = json.loads(question)
    try:
        text = str(apply(messages, **options))
    except MemoryError:
        return "ended", "it took too much memory"
    except _REFUSALS as error:
        return "refused", str(error)[:_LONGEST_FAULT]
    return ("text", text) if len(text) <= LONGEST_TEXT else ("ended", f"it wrote {len(text):,} characters")


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
