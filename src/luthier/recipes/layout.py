"""How the rows of a micro-batch lie: chosen by what the model allows and what its data saves, and said aloud."""

from typing import NamedTuple

import numpy as np

from luthier.config.settings import Settings
from luthier.core.errors import SettingsError
from luthier.data.loader import (
    TREES,
    Batch,
    Layout,
    SequenceStore,
    as_tree,
    micro_batches,
    packed,
    padded,
)
from luthier.data.replay import mixed_steps
from luthier.data.tree import in_tree_order, shared_with_next
from luthier.kernels import tree_attention
from luthier.recipes.job import Job
from luthier.train.policy import packable
from luthier.train.sharing import Sharing, sharing

# Below this share of the tokens, sharing saves less than its branches cost; a cached branch is a call of the whole model.
LEAST_SAVED: dict[Layout, float] = {"tree": 0.1, "cached_tree": 0.25}
_STEPS_COUNTED = 8
# A repeated cache holds the keys and values of a token, a layer at least ten times as much of one that is computed.
_CACHED_PER_POSITION = 10


def resolve_layout(job: Job, store: SequenceStore) -> None:
    """Choose `train.layout` where it is open; raise SettingsError for a layout that is not exact for this model."""
    train = job.settings.train
    possible = possible_sharing(job, job.settings)
    if train.layout is None:
        job.resolve({"train.layout": _chosen(job, store, possible)})
    elif train.layout in TREES and train.layout not in possible.layouts:
        others = f"; use {possible.layouts[0]}" if possible.layouts else "; leave it open, or use padded"
        reason = possible.reason or "its attention is not proven along a flattened tree"
        raise SettingsError(f"train.layout: {job.folder.name} cannot be trained as a {train.layout}: {reason}{others}.")
    elif train.layout == "packed" and not packable(job.model_config):
        raise SettingsError(
            f"train.layout: the layers of {job.folder.name} would leak state across packed rows; use padded."
        )


def possible_sharing(job: Job, settings: Settings) -> Sharing:
    """Return how the job's model may share what rows begin with under these settings."""
    train = settings.train
    return sharing(
        job.model_config,
        lora_dropout=train.lora.dropout if train.method == "lora" else 0.0,
        compiled=bool(train.compile),
    )


def unshared_layout(job: Job) -> Layout:
    """Return how rows lie that share nothing."""
    return "packed" if packable(job.model_config) else "padded"


def num_positions(store: SequenceStore, steps: list[np.ndarray], micro_tokens: int, layout: Layout) -> int:
    """Return how many tokens the model computes in these steps, padding included."""
    return sum(batch.num_positions for step in steps for batch in micro_batches(store, step, micro_tokens, layout))


def batch_to_prove(store: SequenceStore, indices: np.ndarray, layout: Layout) -> Batch:
    """Return two short rows of a step; in a tree, the two shortest neighbours that share something."""
    if layout not in TREES:
        return (packed if layout == "packed" else padded)(store, np.argsort(store.lengths, kind="stable")[:2])
    rows = indices[in_tree_order([store.tokens(index) for index in indices])]
    shared = shared_with_next([store.tokens(index) for index in rows])
    pairs = sorted(range(len(shared)), key=lambda pair: int(store.lengths[rows[pair : pair + 2]].sum()))
    trees = (as_tree(store, rows[pair : pair + 2], layout) for pair in pairs)
    return next((tree for tree in trees if len(tree.places) > 2), as_tree(store, rows[:2], layout))


class Heaviest(NamedTuple):
    """The most that one micro-batch holds: positions, scores that attention keeps for a head, and tokens in repeated caches.

    `following` are the most positions of one that follows another in its step, while gradients of that one are kept.
    """

    positions: int
    scores: int
    cached: int = 0
    following: int = 0


def heaviest_tree(store: SequenceStore, steps: list[np.ndarray], micro_tokens: int, layout: Layout) -> Heaviest:
    """Return the most that one tree of these steps holds."""
    positions = scores = cached = following = 0
    for step in steps:
        for place, batch in enumerate(micro_batches(store, step, micro_tokens, layout)):
            assert batch.tree is not None
            own = batch.num_positions
            if layout == "tree":
                blocks = tree_attention.blocks(batch.tree.segments)
                scores = max(scores, sum(block.num_scores for block in blocks if block.kept))
            else:
                repeated = sum(segment.depth for segment in batch.tree.segments)
                own += repeated // _CACHED_PER_POSITION
                cached = max(cached, batch.num_positions + repeated)
            positions, following = max(positions, own), max(following, own if place else 0)
    return Heaviest(positions, scores, cached, following)


def _chosen(job: Job, store: SequenceStore, possible: Sharing) -> Layout:
    """Return the layout that is exact for this model and computes least, and say why."""
    train, unshared = job.settings.train, unshared_layout(job)
    assert train.batch_tokens and train.micro_tokens
    if not possible.layouts:
        job.voice.say(f"what rows begin with is computed for each of them: {possible.reason}")
        return unshared
    layout = possible.layouts[0]
    steps = mixed_steps(store, train.batch_tokens, job.settings.seed, 0, share=train.replay, layout=layout)
    steps = steps[:_STEPS_COUNTED]
    shared = num_positions(store, steps, train.micro_tokens, layout)
    saved = 1 - shared / num_positions(store, steps, train.micro_tokens, unshared)
    if saved < LEAST_SAVED[layout]:
        return unshared
    job.voice.say(f"what rows begin with in common is computed once for all: {saved:.0%} fewer tokens to compute")
    return layout
