"""Rows of random tokens behind a shared beginning, for benches that need no data."""

import numpy as np

from luthier.core.types import Rendered
from luthier.data.loader import SequenceStore


def shared_rows(number: int, *, shared: int, own: int, vocab_size: int) -> SequenceStore:
    """Return rows of `own` random tokens, a third of them trained, behind `shared` tokens that all begin with."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(3, vocab_size, shared)
    weights = np.zeros(shared + own, dtype=np.float32)
    weights[-(own // 3) :] = 1
    return SequenceStore(
        [
            Rendered(
                f"row-{row}", np.concatenate([beginning, rng.integers(3, vocab_size, own)]).astype(np.int32), weights
            )
            for row in range(number)
        ]
    )
