"""The GPU's attention: its mask against the reference's on the CPU; its kernels, forward and backward, where there is a GPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface

from luthier.core.types import Segment
from luthier.data import tree
from luthier.kernels import attention, gpu_attention, reference, tree_attention

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def grown(seed: int, num_rows: int = 7) -> tuple[Segment, ...]:
    """The segments of rows that go on from random places of rows before them."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(3, 40, 90)]
    while len(rows) < num_rows:
        parent = rows[rng.integers(len(rows))]
        kept = parent[: rng.integers(0, len(parent) + 1)]
        rows.append(np.concatenate([kept, rng.integers(3, 40, rng.integers(2, 40))]))
    ordered = [rows[index] for index in tree.in_tree_order(rows)]
    return tree.grow(ordered, multiple=8).segments


def heads(seed: int, size: int, device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """Queries of four heads, keys and values of two, 32 channels each."""
    rng = torch.Generator().manual_seed(seed)
    made = [torch.randn(number, size, 32, generator=rng) for number in (4, 2, 2)]
    return [one.to(device, dtype).requires_grad_(device != "cpu") for one in made]


def real(segments: tuple[Segment, ...]) -> torch.Tensor:
    """Which positions hold tokens."""
    return torch.cat([torch.arange(segment.place) < segment.length for segment in segments])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), window=st.sampled_from([None, 5, 40]))
def test_three_numbers_a_position_say_who_sees_whom(seed, window):
    segments = grown(seed)
    places = torch.arange(segments[-1].start + segments[-1].place)
    none = torch.zeros((), dtype=torch.long)
    sees = gpu_attention.branches(segments, torch.device("cpu")).sees(window)
    ours = sees(none, none, places[:, None], places[None])
    rows = real(segments)
    assert torch.equal(ours[rows], reference.visible(segments, window)[rows])
    assert ours.any(1).all(), "a position that sees nothing has no softmax"


def test_segments_may_stand_in_any_order_behind_their_parents():
    parents = [-1, 0, 0, 1, -1, 2, 1]
    segments = tuple(Segment(8 * number, 7, 8, 0, parent) for number, parent in enumerate(parents))
    places = torch.arange(8 * len(parents))
    none = torch.zeros((), dtype=torch.long)
    ours = gpu_attention.branches(segments, torch.device("cpu")).sees()(none, none, places[:, None], places[None])
    assert torch.equal(ours[real(segments)], reference.visible(segments)[real(segments)])


@pytest.mark.parametrize("window", [None, 12])
def test_flex_attention_along_a_tree_equals_the_reference(window):
    segments = grown(3)
    inputs = heads(0, segments[-1].start + segments[-1].place, "cpu", torch.float32)
    where = gpu_attention.branches(segments, torch.device("cpu"))
    ours = gpu_attention.along_tree(*inputs, where, 0.2, window)
    truth = reference.tree_attention(*inputs, segments, 0.2, window)
    torch.testing.assert_close(ours[:, real(segments)], truth[:, real(segments)])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", [gpu_attention.branches, lambda segments, _: tree_attention.blocks(segments)])
def test_a_model_reaches_either_attention_along_a_tree_by_its_name(compiled, kind):
    """As `train.compile` hands it on too, which does not look into the tree."""
    segments = grown(3)
    inputs = heads(0, segments[-1].start + segments[-1].place, "cpu", torch.float32)
    where = kind(segments, torch.device("cpu"))
    called = AttentionInterface()[attention.register(compiled=compiled)]
    given = [one[None] for one in inputs]
    ours, _ = called(
        torch.nn.Identity(), *given, None, scaling=0.2, blocks=attention.Opaque(where) if compiled else where
    )
    truth = reference.tree_attention(*inputs, segments, 0.2, None)
    torch.testing.assert_close(ours[0].transpose(0, 1)[:, real(segments)], truth[:, real(segments)])


def test_rows_begin_where_those_before_them_end():
    rows = gpu_attention.rows((16, 8, 24), torch.device("cpu"))
    assert rows.borders.tolist() == [0, 16, 24, 48] and rows.longest == 24


def compared(ours: torch.Tensor, truth: torch.Tensor, inputs: list[torch.Tensor], bound: float) -> None:
    """Compare the outputs and, through one random direction, the gradients of all inputs."""
    direction = torch.randn(truth.shape, generator=torch.Generator().manual_seed(9)).to(truth.device, truth.dtype)
    found = []
    for out in (ours, truth):
        gradients = torch.autograd.grad((out * direction).sum(), inputs)
        found.append([out.detach(), *gradients])
    for one, other in zip(*found, strict=True):
        assert torch.linalg.vector_norm(one - other) <= bound * torch.linalg.vector_norm(other)


@on_gpu
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("window", [None, 12])
def test_a_tree_on_the_gpu_has_the_gradients_of_the_reference(dtype, bound, window):
    for seed in range(3):
        segments = grown(seed, num_rows=7 + 20 * seed)
        inputs = heads(seed, segments[-1].start + segments[-1].place, "cuda", dtype)
        where = gpu_attention.branches(segments, torch.device("cuda"))
        rows = real(segments).cuda()
        ours = gpu_attention.along_tree(*inputs, where, 0.2, window)[:, rows]
        wide = [one.float() for one in inputs]
        seen = reference.visible(segments, window).cuda()
        scores = (wide[0] @ wide[1].repeat_interleave(2, 0).transpose(1, 2) * 0.2).masked_fill(~seen, float("-inf"))
        truth = (torch.softmax(scores, -1) @ wide[2].repeat_interleave(2, 0)).to(dtype)[:, rows]
        compared(ours, truth, inputs, bound)


@on_gpu
def test_packed_rows_on_the_gpu_have_the_gradients_of_the_reference():
    places = (16, 8, 104, 264, 40)
    starts = np.cumsum([0, *places]).tolist()
    segments = tuple(Segment(start, place, place, 0, -1) for start, place in zip(starts, places, strict=False))
    inputs = heads(1, sum(places), "cuda", torch.bfloat16)
    ours = gpu_attention.within_rows(*inputs, gpu_attention.rows(places, torch.device("cuda")), 0.2).transpose(0, 1)
    wide = [one.float() for one in inputs]
    seen = reference.visible(segments).cuda()
    scores = (wide[0] @ wide[1].repeat_interleave(2, 0).transpose(1, 2) * 0.2).masked_fill(~seen, float("-inf"))
    compared(ours, (torch.softmax(scores, -1) @ wide[2].repeat_interleave(2, 0)).bfloat16(), inputs, 2e-2)
