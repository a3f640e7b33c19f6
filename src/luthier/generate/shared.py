"""What the prompts of a batch begin with in common."""

from collections.abc import Sequence

from luthier.core.types import Prompt

_LEAST = 16


def num_shared(batch: Sequence[Prompt]) -> int:
    """Count the tokens that all prompts begin with, one less than the shortest; 0 where sharing does not pay."""
    if len(batch) == 1:
        return 0
    first, last = min(prompt.tokens for prompt in batch), max(prompt.tokens for prompt in batch)
    shortest = min(len(prompt.tokens) for prompt in batch)
    shared = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), shortest)
    shared = min(shared, shortest - 1)
    return shared if shared >= _LEAST else 0
