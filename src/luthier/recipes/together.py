"""A run in several processes: the leader walks the road, the others train with it whenever it trains.

    torchrun --nproc-per-node 2 -m luthier.cli.main run DATA ...

Only the leader reads, plans, compares and writes; the others wait for the folder of a run that is to be trained, take
its settings and parts from there, and wait again.
"""

from pathlib import Path

import torch

from luthier.config.load import load
from luthier.core.rundir import RunDir, open_run
from luthier.recipes.job import Job
from luthier.recipes.train import train_stage
from luthier.recipes.voice import Voice
from luthier.train.world import world

_DONE = "done "


def follow() -> RunDir | None:
    """Train with the leader until it has finished and return its folder; None at once in the leader itself."""
    here = world()
    if here.leads:
        return None
    while not (word := here.told()).startswith(_DONE):
        job = Job(open_run(Path(word)), load([RunDir(Path(word)).config]), Voice(quiet=True), leads=False)
        if job.settings.threads is not None:
            torch.set_num_threads(job.settings.threads)
        train_stage(job)
    return open_run(Path(word.removeprefix(_DONE)))


def dismiss(run: RunDir) -> None:
    """Tell the others that there is nothing more to train."""
    world().told(_DONE + str(run.path))
