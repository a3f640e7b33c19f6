"""What each of two processes runs for test_two_processes.py: a training, one that is stopped, and the same gone on with.

torchrun --nproc-per-node 2 two_ranks.py FOLDER SETTINGS.json
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from tiny_training import live_lora, new_run, policy_of, random_store, resolved, tiny_model

from luthier.core.errors import Stopped
from luthier.data.loader import Batch, micro_batches
from luthier.recipes.train import validation
from luthier.train.loop import Progress, Trainer
from luthier.train.objectives.sft import Objective
from luthier.train.world import world

STEPS, STOP_AT = 6, 3


def train(folder: Path, changes: dict[str, object], stop: bool) -> None:
    """Train from what lies in the folder; with `stop`, the second process alone gets a signal."""
    here = world()
    settings = resolved(**changes, steps=STEPS, validate_every=2)
    policy = policy_of(tiny_model(), settings)
    live_lora(policy.model)
    if here.leads:
        new_run(folder)
    here.wait()
    held_out = random_store(9, 5, shared=40)

    def watch(progress: Progress) -> None:
        if stop and progress.step == STOP_AT and here.rank == here.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer = Trainer(policy, Objective(), random_store(40, shared=40), settings, 0, new_run(folder), here)
    shares = [len(here.own(list(trainer_batches(trainer, step)))) for step in range(3)]
    outcome = trainer.train({"data": "tiny"}, lambda: validation(policy, held_out, settings), watch)
    held = sum(master.numel() for master in trainer.optimizer.masters.values())
    print(json.dumps({"rank": here.rank, "shares": shares, "best": outcome.best_loss, "held": held}), flush=True)


def trainer_batches(trainer: Trainer, step: int) -> Iterator[Batch]:
    """The micro-batches of one of the first steps."""
    indices = trainer._steps_of(0)[step]
    return micro_batches(trainer.store, indices, trainer.micro_tokens, trainer.layout)


def main() -> None:
    """Run the three trainings."""
    folder, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
    train(folder / "straight", changes, False)
    if world().size > 1:
        try:
            train(folder / "stopped", changes, True)
        except Stopped:
            print(json.dumps({"rank": world().rank, "stopped": True}), flush=True)
        train(folder / "stopped", changes, False)


if __name__ == "__main__":
    main()
