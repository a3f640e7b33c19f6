"""The squares of a tree's attention, found from its segments, are those that torch finds by looking at every pair of positions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gpu_attention import grown
from torch.nn.attention.flex_attention import create_block_mask

from luthier.core.types import Segment
from luthier.kernels import gpu_attention
from luthier.kernels.seen_blocks import SIDE, seen

CPU = torch.device("cpu")
TABLES = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices")  # fmt: skip


def random_tree(seed: int, number: int) -> tuple[Segment, ...]:
    """Segments of 1 to 300 tokens, each behind a random earlier one or at the root, with up to 16 positions of padding."""
    rng = np.random.default_rng(seed)
    segments: list[Segment] = []
    start = 0
    for node in range(number):
        parent = int(rng.integers(-1, node)) if node else -1
        length = int(rng.integers(1, 300 if rng.random() < 0.3 else 40))
        depth = segments[parent].depth + segments[parent].length if parent >= 0 else 0
        segments.append(Segment(start, length, length + int(rng.integers(0, 17)), depth, parent))
        start += segments[-1].place
    return tuple(segments)


def compared(segments: tuple[Segment, ...], window: int | None) -> None:
    where = gpu_attention.branches(segments, CPU)
    size = len(where.entered_N)
    ours, truth = where.mask(window), create_block_mask(where.sees(window), None, None, size, size, "cpu")
    assert ours.seq_lengths == truth.seq_lengths and ours.BLOCK_SIZE == truth.BLOCK_SIZE == (SIDE, SIDE)
    for name in TABLES:
        one, other = getattr(ours, name), getattr(truth, name)
        assert one.dtype == other.dtype and torch.equal(one, other), name
    assert torch.equal(ours.to_dense(), truth.to_dense())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), number=st.integers(1, 20), window=st.sampled_from([None, 1, 40, 200]))
def test_the_squares_of_a_random_tree_are_those_of_its_whole_mask(seed, number, window):
    compared(random_tree(seed, number), window)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), window=st.sampled_from([None, 30]))
def test_the_squares_of_rows_in_a_tree_are_those_of_its_whole_mask(seed, window):
    compared(grown(seed, num_rows=12), window)


@pytest.mark.parametrize("window", [None, 100, 500])
def test_a_long_beginning_is_seen_wholly_and_a_strange_branch_not_at_all(window):
    branches = [Segment(1024 + 128 * number, 128, 128, 1024, 0) for number in range(8)]
    part_QQ, whole_QQ = seen(gpu_attention.branches((Segment(0, 1024, 1024, 0, -1), *branches), CPU).pieces, window)
    assert part_QQ.trace() == 16 and not whole_QQ.diagonal().any()
    if window is None:
        assert whole_QQ[8:, :8].all() and part_QQ.sum() == 16
    else:
        assert whole_QQ[8:, :8].sum() == {100: 0, 500: 8 * 2}[window]
    assert not (part_QQ | whole_QQ)[8:, 8:][~np.eye(8, dtype=bool)].any()
    compared((Segment(0, 1024, 1024, 0, -1), *branches), window)
