"""Candidates of bench/sft.py as processes: each has its own, with a limit of time, and may import what it needs ahead of its turn."""

import json
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import IO

from luthier.core.threads import child_environment

Figures = dict[str, float | str]


@dataclass
class Candidate:
    """A process that waits for its turn; what it prints goes to files, which never stop it."""

    command: list[str]
    process: subprocess.Popen[str]
    said: IO[str]
    complained: IO[str]

    def measure(self, limit: float) -> Figures:
        """Let it run and return what it says about itself; where it failed or took longer than `limit` seconds, `failed` says how."""
        started = time.monotonic()
        try:
            self.process.communicate("\n", timeout=limit)
        except subprocess.TimeoutExpired:
            self.dismiss()
            return {"failed": f"not done after {limit:.0f} seconds"}
        for file in (self.said, self.complained):
            file.seek(0)
        if self.process.returncode:
            complaint = self.complained.read()
            lines = complaint.strip().splitlines() or [f"exit status {self.process.returncode}"]
            return {"failed": lines[-1][:500], "trace": complaint[-3000:]}
        return json.loads(self.said.read().splitlines()[-1]) | {"process_seconds": time.monotonic() - started}

    def dismiss(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def in_turn(commands: Iterable[list[str]], threads: int, ahead: int) -> Generator[Candidate]:
    """Yield a candidate for every command, while so many that follow it import already; end those that nobody waits for."""
    waiting: deque[Candidate] = deque()
    try:
        for command in commands:
            waiting.append(_started(command, threads))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for candidate in waiting:
            candidate.dismiss()


def _started(command: list[str], threads: int) -> Candidate:
    said, complained = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115 - they live as long as it does
    environment = child_environment(threads)
    del environment["OMP_WAIT_POLICY"]  # a candidate has the machine to itself, and waits as it does for its users
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=said, stderr=complained, text=True
    )
    return Candidate(command, process, said, complained)
