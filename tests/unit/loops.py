"""What the tests of the training loop share: what a run wrote, and how it is killed."""

from tiny_training import (
    weights_of,
)

from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.train import checkpoint
from luthier.train.loop import Progress

FINGERPRINT = {"torch": "2", "settings": {"train": {"lr": 0.1, "steps": 12}}}


class Killed(Exception):
    """Stands for the end of the process at that point."""


def losses(run: RunDir) -> list[str]:
    return [str(entry["loss"]) for entry in entries(run.metrics)]


def steps_saved(run: RunDir) -> list[int]:
    return [int(path.name) for path in checkpoint.steps_on_disk(run.checkpoints)]


def events(run: RunDir, kind: str) -> list[dict]:
    return [entry for entry in entries(run.events) if entry["event"] == kind]


def same(one: RunDir, other: RunDir, step: int = 12) -> None:
    assert one.metrics.read_bytes() == other.metrics.read_bytes()
    assert weights_of(one, step) == weights_of(other, step)


def killing_at(step: int):
    def watch(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return watch
