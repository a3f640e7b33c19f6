"""Run code that a model wrote in a process of its own: no network, nothing to write to, little time and memory.

What a sandbox cannot promise: code that sets out to cheat shares its process with the tests and can reach into them. It
can also read any file that the user can read, though it has no way to send it anywhere.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, cast

from luthier.core.errors import SettingsError
from luthier.core.types import JsonObject, JsonValue
from luthier.graders.measures import jail

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_MOST_RESULT = 1 << 16
_SECONDS_TO_END = 2.0


@dataclass(frozen=True, slots=True)
class Task:
    """Code to execute and what follows it; `value` names the variable to bring back, `names` what there is before."""

    code: str
    tests: str = ""
    value: str | None = None
    names: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class Limits:
    """What the code may use; `isolated` is off only where the user asked for it."""

    seconds: int = 10
    megabytes: int = 1024
    isolated: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: `fault` is None where code and tests came to their end."""

    fault: str | None
    value: float | None = None


def execute(task: Task, limits: Limits) -> Outcome:
    """Run a task to its end or its limits."""
    nonce = secrets.token_hex(16)
    content: JsonObject = {
        "code": task.code, "tests": task.tests, "value": task.value, "names": dict(task.names), "nonce": nonce,
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="luthier-") as folder,
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as result,
        tempfile.TemporaryFile() as said,
    ):
        given.write(json.dumps(content).encode())
        given.seek(0)
        code = _finished(folder, limits, (given, result, said))
        if code is None:
            return Outcome(f"not done after {limits.seconds} s")
        if code == jail.ISOLATION_FAILED:
            return Outcome(f"isolation failed: {_head(said).strip()}")
        return _outcome(_head(result), nonce, code)


@cache
def isolation_problem() -> str | None:
    """Return why code cannot be isolated on this machine, None where it can; tried once."""
    if sys.platform != "linux":
        return f"{sys.platform} has no namespaces"
    return execute(Task("import os\nassert os.getpid() == 1"), Limits()).fault


def ensure_isolation(what: str, *, unsafe: bool) -> None:
    """Raise SettingsError where code would run without isolation and the user did not ask for that."""
    problem = None if unsafe else isolation_problem()
    if problem:
        raise SettingsError(
            f"{what} runs code that a model wrote, and this machine cannot isolate it ({problem}). Run it in a container or on Linux "
            f"with user namespaces; or accept that it runs with your rights: `unsafe=true`."
        )


def _finished(folder: str, limits: Limits, streams: tuple[IO[bytes], IO[bytes], IO[bytes]]) -> int | None:
    """Start the child and return its exit code, None when it had to be killed."""
    kind = "isolated" if limits.isolated else "open"
    script = [
        sys.executable,
        "-I",
        "-S",
        str(Path(jail.__file__)),
        folder,
        str(limits.seconds),
        str(limits.megabytes),
        kind,
    ]
    child = subprocess.Popen(
        script, stdin=streams[0], stdout=streams[1], stderr=streams[2], start_new_session=True,
        env=_ENVIRONMENT | dict.fromkeys(_ONE_THREAD, "1"),
    )  # fmt: skip
    try:
        return child.wait(timeout=limits.seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Have the child end its namespace, then kill what is left of its own process group."""
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(timeout=_SECONDS_TO_END)
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _outcome(written: str, nonce: str, code: int) -> Outcome:
    try:
        result = json.loads(written)
    except ValueError:
        return Outcome(f"ended before its end, with code {code}")
    found = cast(JsonObject, result) if isinstance(result, dict) else {}
    if found.get("nonce") != nonce:
        return Outcome(str(found.get("fault") or "wrote a result of its own"))
    value = found.get("value")
    return Outcome(None, float(value) if isinstance(value, int | float) else None)


def _head(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(_MOST_RESULT).decode("utf-8", "replace")
