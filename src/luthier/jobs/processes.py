"""Processes that outlive the one that started them: how they are told apart, started and ended.

A process is known by its number and the instant at which it started, as numbers are used again.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil


class ProcessName(NamedTuple):
    """A process, unmistakably as long as the machine runs."""

    pid: int
    start: float


def boot_id() -> str:
    """Return what changes when the machine starts anew."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else str(int(psutil.boot_time()))


def this_process() -> ProcessName:
    """Name the process that asks."""
    return ProcessName(os.getpid(), psutil.Process().create_time())


def is_alive(process: ProcessName) -> bool:
    """Tell whether the process still runs; one that only waits to be buried does not."""
    try:
        found = psutil.Process(process.pid)
        return found.create_time() == process.start and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_apart(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a Python module that goes on when this process ends; what it says goes to `log`."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=dict(environment), start_new_session=True,
        )  # fmt: skip


def start_tethered(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Start a Python module in `folder` that is killed when this process ends, however it ends."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "luthier.jobs.tether", str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=dict(environment), cwd=folder,
        )  # fmt: skip


def kill_group(leader: ProcessName) -> None:
    """Kill a worker and what it started, at once; a group that is gone, or another's by now, is left alone."""
    try:
        if psutil.Process(leader.pid).create_time() != leader.start:
            return
    except psutil.NoSuchProcess:
        pass  # a number is not given out again while a group of that number has members
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
