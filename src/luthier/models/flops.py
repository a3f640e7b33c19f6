"""Floating-point operations of a training, counted from what it multiplies.

A product of a matrix with one token's vector takes two operations a weight. The backward pass takes two more
for the gradient that it hands down, and two for that of a weight which is trained. Where a batch computes what
rows share once, its tokens count once.
"""

from typing import NamedTuple

from luthier.models.sizes import Shape


class Work(NamedTuple):
    """What is computed: tokens that go through the layers, targets that go through the output layer, and pairs of tokens that attention looks at."""

    positions: int
    targets: int
    scores: int


def training_flops(shape: Shape, num_tokens: int) -> int:
    """Return the operations of training every weight: 6 per weight and token (Kaplan et al. 2020, arXiv 2001.08361)."""
    return 6 * shape.num_weights * num_tokens


def step_flops(shape: Shape, work: Work, num_trained: int, *, full: bool, checkpointing: bool) -> int:
    """Return the operations of training on some work, forward and backward; `num_trained` weights of LoRA where it is not full."""
    own = 0 if full else num_trained
    forward = 2 * work.positions * (shape.layer_weights + own) + _attention(shape, work)
    down = 2 * work.positions * (shape.layer_weights + own) + 2 * _attention(shape, work)
    trained = 2 * work.positions * (shape.layer_weights if full else own)
    head = (6 if full else 4) * work.targets * shape.vocab_size * shape.hidden_size
    return forward * (2 if checkpointing else 1) + down + trained + head


def _attention(shape: Shape, work: Work) -> int:
    """Queries with keys, and shares with values; hidden scores are counted where they are computed."""
    return 4 * work.scores * shape.num_heads * shape.head_size * shape.num_layers
