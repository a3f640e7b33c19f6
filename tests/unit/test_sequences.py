"""Rendered sequences on disk: what is read is what was written, and only for the rows and settings that it was made from."""

import numpy as np
import pytest

from luthier.core.types import Rendered
from luthier.data import sequences
from luthier.data.loader import SequenceStore, micro_batches


def store(largest: int, weights: np.ndarray) -> SequenceStore:
    rng = np.random.default_rng(0)
    own = [
        Rendered(f"row:{number}", rng.integers(0, largest, 40).astype(np.int32), rng.choice(weights, 40).astype(np.float32))
        for number in range(9)
    ]  # fmt: skip
    return SequenceStore(own[:6], own[6:])


@pytest.mark.parametrize("largest", [500, 1 << 20])
@pytest.mark.parametrize("weights", [np.array([0, 1, 2.5]), np.linspace(0, 1, 360)])
def test_a_store_comes_back_to_the_bit(tmp_path, largest, weights):
    first = store(largest, weights)
    sequences.write(tmp_path / "s", first, "these rows")
    second = sequences.read(tmp_path / "s", "these rows")
    assert (
        second is not None and second.digest() == first.digest() and second.num_own == 6 and second.rows == first.rows
    )
    for one, other in zip(*(micro_batches(x, np.arange(9), 100, "packed") for x in (first, second)), strict=True):
        assert (one.tokens_BL == other.tokens_BL).all() and (one.weight_T == other.weight_T).all()
        assert one.rows == other.rows


def test_other_rows_a_missing_file_and_a_broken_one_give_nothing(tmp_path):
    sequences.write(tmp_path / "s", store(500, np.array([0, 1])), "these rows")
    assert sequences.read(tmp_path / "s", "other rows") is None
    assert sequences.read(tmp_path / "none", "these rows") is None
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:200])
    assert sequences.read(tmp_path / "s", "these rows") is None
