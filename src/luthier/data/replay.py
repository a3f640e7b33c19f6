"""General rows among the steps of a task: how a share of every step's tokens is replayed against forgetting.

A step keeps its size. The task's rows are dealt into it up to what the replayed ones leave, so that an epoch of the task has more
steps. Which general rows a step takes is counted from (seed, epoch), one round through all of them after another.
"""

from collections.abc import Iterator

import numpy as np

from luthier.core.hashing import generator
from luthier.data.loader import Layout, SequenceStore, steps_of_epoch


def mixed_steps(
    store: SequenceStore, batch_tokens: int, seed: int, epoch: int, *, share: float, layout: Layout | None = None
) -> list[np.ndarray]:
    """Return the steps of an epoch of the task's sequences, each with `share` of its tokens from the replayed ones.

    Without a share they are those of `steps_of_epoch`. In a `layout` that shares what rows begin with, those of one row stay together.
    """
    kin = None if layout is None else store.kin_in(layout)
    own = kin if kin is None else kin[: store.num_own]
    steps = steps_of_epoch(store.lengths[: store.num_own], max(1, round(batch_tokens * (1 - share))), seed, epoch, own)
    return steps if not share else _with_replayed(store, steps, seed, epoch, share)


def _with_replayed(
    store: SequenceStore, steps: list[np.ndarray], seed: int, epoch: int, share: float
) -> list[np.ndarray]:
    """Put general sequences behind those of each step; what one step got too much the next gets less."""
    waiting = _rounds(store, seed, epoch)
    owed = 0.0
    mixed: list[np.ndarray] = []
    for step in steps:
        owed += share / (1 - share) * float(store.lengths[step].sum())
        taken: list[int] = []
        while owed > 0:
            taken.append(next(waiting))
            owed -= float(store.lengths[taken[-1]])
        mixed.append(np.concatenate([step, np.array(taken, dtype=step.dtype)]))
    return mixed


def _rounds(store: SequenceStore, seed: int, epoch: int) -> Iterator[int]:
    assert store.num_own < len(store), "there is nothing to replay"
    rounds = 0
    while True:
        drawn = generator(seed, "replay", epoch, rounds).permutation(len(store) - store.num_own)
        yield from (drawn + store.num_own).tolist()
        rounds += 1
