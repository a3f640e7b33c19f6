"""Call the command line as a user does: in this process, or in one of its own."""

import io
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from luthier.cli.main import main
from luthier.core.threads import child_environment

LUTHIER = (sys.executable, "-m", "luthier.cli.main")
STARTER = Path(__file__).parents[2] / "src" / "luthier" / "starter" / "model"
needs_starter = pytest.mark.skipif(
    not (STARTER / "model.safetensors").exists(), reason="the starter's weights are not there"
)


@dataclass(frozen=True)
class Called:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def luthier(*arguments: object) -> Called:
    """Run one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["luthier", *map(str, arguments)]
    num_threads = torch.get_num_threads()
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    finally:
        sys.argv = before
        torch.set_num_threads(num_threads)
    return Called(code, out.getvalue(), err.getvalue())


def start(*arguments: object, environment: Mapping[str, str] | None = None, **options: object) -> subprocess.Popen[str]:
    """Start one command in a process of its own, with one core."""
    return subprocess.Popen(  # type: ignore[call-overload]
        [*LUTHIER, *map(str, arguments)],
        env=child_environment(1) if environment is None else environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def in_own_process(*arguments: object, environment: Mapping[str, str] | None = None) -> Called:
    """Run one command in a process of its own and wait for it."""
    with start(*arguments, environment=environment) as process:
        try:
            out, err = process.communicate(timeout=900)  # a busy machine is no failure
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Called(process.returncode, out, err)


def refused(called: Called, *words: str) -> None:
    """Assert that a command ended with what the user can mend: code 2, one message, no traceback, these words."""
    assert called.code == 2, called.err
    assert "Traceback" not in called.err
    assert called.err.count("luthier: ") == 1, called.err
    message = called.err.partition("luthier: ")[2]
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"
