"""Kills a training process again and again, at random instants, and lets every resume be the next victim.

A program of its own: it imports torch and transformers once, then forks one child an attempt, so that an
attempt costs what the training costs. The children are killed by SIGKILL for real. Nothing is computed
in this process, so no thread lives when it forks.

    python killing.py SETTINGS.yaml WHOLE TORN KILLS SEED

trains once undisturbed in the folder WHOLE, once under KILLS kills in TORN, and prints what happened as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import transformers.models.llama.modeling_llama

import luthier.recipes.run as recipe
from luthier.config.load import load
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.recipes.voice import Voice
from luthier.train import checkpoint

assert (
    transformers.models.llama.modeling_llama
)  # imported before the first fork, which transformers leaves to the first use


def walk(settings: Path, out: Path) -> None:
    """Start the run, or go on with it: what `luthier train` and `luthier resume` do."""
    if (out / "config.yaml").exists():
        recipe.resume(out, Voice(quiet=True))
    else:
        recipe.train(load([settings]), out, Voice(quiet=True))


def fork(work: Callable[[], None], log: Path) -> int:
    """Do the work in a child and return its process id; what goes wrong there stands in the log."""
    child = os.fork()
    if child:
        return child
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    try:
        work()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def seconds_to(child: int, happened: Callable[[], bool]) -> float:
    """Seconds until something has happened or the child has ended."""
    start = time.monotonic()
    while not happened() and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.002)
    return time.monotonic() - start


def where(run: RunDir) -> dict[str, object]:
    """What a killed run has: its newest checkpoint, complaints, and whether the journal counts without a gap."""
    found, complaints = checkpoint.newest(run.checkpoints)
    steps = [entry["step"] for entry in entries(run.metrics)]
    half_written = [path.name for path in run.checkpoints.glob(".tmp-*")]
    return {
        "step": None if found is None else found.step, "complaints": complaints, "half_written": len(half_written),
        "whole_journal": steps == list(range(1, len(steps) + 1)),
        "covered": found is None or found.state["metrics_offset"] <= run.metrics.stat().st_size,
    }  # fmt: skip


def place(run: RunDir) -> tuple[bool, int]:
    """Whether training has begun, and how often it went on: this changes when an attempt comes to its training."""
    return any(run.checkpoints.glob("[0-9]*")), sum(entry["event"] == "resumed" for entry in entries(run.events))


def num_steps(run: RunDir) -> int:
    """The steps that the journal holds."""
    return sum(1 for _ in entries(run.metrics))


def main(settings: Path, whole: Path, torn: Path, kills: int, seed: int) -> dict[str, object]:
    """Measure an undisturbed training, then kill another one at instants spread over about all of it."""
    log = whole.parent / "children.log"
    child = fork(lambda: walk(settings, whole), log)
    before_training = seconds_to(child, lambda: place(RunDir(whole))[0])
    training = train_to_the_end(child, RunDir(whole), log)
    rng, run, trail = random.Random(seed), RunDir(torn), []
    share = 1.2 * num_steps(RunDir(whole)) / kills
    for _ in range(kills):
        before = place(run)
        child = fork(lambda: walk(settings, torn), log)
        if rng.random() < 0.25:  # anywhere: while it reads, splits, plans, loads
            time.sleep(rng.uniform(0, before_training))
        else:
            seconds_to(child, lambda before=before: place(run) != before)
            # The steps bound it where the undisturbed training was slowed down: no attempt goes so far that nothing is left for the others.
            until, most = time.monotonic() + rng.uniform(0, 2 * training / kills), num_steps(run) + share
            seconds_to(child, lambda until=until, most=most: time.monotonic() >= until or num_steps(run) >= most)
        trail.append({"alive": kill(child), **where(run)})
    train_to_the_end(fork(lambda: walk(settings, torn), log), run, log)
    return {"kills": trail, "before_training": before_training, "training": training, "log": log.read_text()}


def train_to_the_end(child: int, run: RunDir, log: Path) -> float:
    """Wait for the end of the training, and return its seconds; what follows it (export) is not waited for."""
    seconds = seconds_to(child, lambda: run.done("train"))
    kill(child)
    assert run.done("train"), log.read_text()
    return seconds


def kill(child: int) -> bool:
    """Kill a child for good and return whether it was still alive."""
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))))
