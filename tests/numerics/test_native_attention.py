"""Attention in training as compiled functions: what one big mask gives, forward and backward, for any tree and any rows."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree_families import rows_of_a_trie
from tiny_training import policy_of, random_store, resolved, tiny_model

from luthier.core.types import Segment
from luthier.data.loader import Layout, as_tree, micro_batches
from luthier.kernels import attention, native, native_attention, reference, tree_attention
from luthier.kernels.native import Branches, Native

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"needs compiled functions: {native.why_not()}")
# A segment of many pieces, forks, siblings of one token and of several tiles, a second root.
LONG = [
    Segment(0, 610, 616, 0, -1), Segment(616, 5, 8, 610, 0), Segment(624, 8, 8, 610, 0), Segment(632, 130, 136, 610, 0),
    Segment(768, 3, 8, 740, 3), Segment(776, 7, 8, 740, 3), Segment(784, 9, 16, 0, -1), Segment(800, 1, 1, 0, -1),
]  # fmt: skip
# How far from float64 results may be, as a share of their norm, or of a tenth of the output's: where a token sees itself alone gradients are zero.
CLOSE = {torch.float32: 5e-6, torch.bfloat16: 8e-3}


def library() -> Native:
    found = native.library()
    assert found is not None
    return found


def inputs(num: int, dtype: torch.dtype, heads: int, group: int, channels: int) -> list[torch.Tensor]:
    """Queries, keys, values and the result's gradient; some lie token by token, some head by head."""
    rng = torch.Generator().manual_seed(num + channels)
    query, key = (torch.randn(num, many, channels, generator=rng).transpose(0, 1) for many in (heads * group, heads))
    value, grad = (torch.randn(many, num, channels, generator=rng) for many in (heads, heads * group))
    return [states.to(dtype) for states in (query, key, value, grad)]


def compiled(*given: object) -> torch.Tensor:
    return native_attention.attend(library(), *given)  # type: ignore[arg-type]


def with_gradients(attend: Callable[..., torch.Tensor], given: list[torch.Tensor], *how: object) -> list[torch.Tensor]:
    *states, grad = given
    leaves = [one.detach().requires_grad_() for one in states]
    out = attend(*leaves, *how)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def apart(segments: list[Segment], given: list[torch.Tensor], scale: float, window: int | None) -> list[float]:
    branches = native_attention.branches_of(tree_attention.blocks(segments))
    ours = with_gradients(compiled, given, branches, scale, window)
    wide = [states.double() for states in given]
    truth = with_gradients(reference.tree_attention, wide, segments, scale, window)
    return distances(ours, truth)


def distances(ours: list[torch.Tensor], truth: list[torch.Tensor]) -> list[float]:
    least = truth[0].norm() / 10
    return [
        float((one - other).norm() / torch.maximum(other.norm(), least)) for one, other in zip(ours, truth, strict=True)
    ]


@pytest.mark.parametrize("dtype", list(CLOSE))
@pytest.mark.parametrize("window", [None, 1, 7, 40, 600])
def test_pieces_tiles_forks_and_windows_equal_one_big_mask(dtype: torch.dtype, window: int | None) -> None:
    given = inputs(801, dtype, heads=2, group=3, channels=48)
    assert max(apart(LONG, given, 0.3, window)) <= CLOSE[dtype]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), dtype=st.sampled_from(list(CLOSE)), window=st.sampled_from([None, 3, 20]),
    heads=st.integers(1, 3), group=st.sampled_from([1, 2, 7]), channels=st.sampled_from([16, 48, 64]),
)  # fmt: skip
def test_any_tree_equals_one_big_mask(
    seed: int, dtype: torch.dtype, window: int | None, heads: int, group: int, channels: int
) -> None:
    store = rows_of_a_trie(seed)
    tree = as_tree(store, range(len(store))).tree
    assert tree is not None
    segments = list(tree.segments)
    num = segments[-1].start + segments[-1].place
    assert max(apart(segments, inputs(num, dtype, heads, group, channels), 0.4, window)) <= CLOSE[dtype]


@pytest.mark.parametrize("dtype", list(CLOSE))
def test_packed_rows_attend_within_themselves_and_keep_their_numbers_whatever_stands_beside(dtype: torch.dtype) -> None:
    runs = ((2, 24), (1, 8), (1, 150), (2, 1))
    places = [place for number, place in runs for _ in range(number)]
    given = inputs(sum(places), dtype, heads=2, group=2, channels=32)
    ours = with_gradients(compiled, given, native_attention.rows_of(runs), 0.2)
    start = 0
    for place in places:
        row = [states[:, start : start + place] for states in given]
        alone = with_gradients(compiled, row, native_attention.rows_of(((1, place),)), 0.2)
        truth = with_gradients(
            reference.tree_attention, [one.double() for one in row], [Segment(0, place, place, 0, -1)], 0.2, None
        )
        mine = [one[:, start : start + place] for one in ours]
        assert torch.equal(mine[0], alone[0])
        assert max(distances(mine, truth)) <= CLOSE[dtype]
        start += place


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("heads", [1, 3, 4])
def test_the_same_threads_give_the_same_bits_and_others_the_same_numbers(
    heads: int, threads: Callable[[int], None]
) -> None:
    given = inputs(801, torch.bfloat16, heads, group=2, channels=32)
    branches = native_attention.branches_of(tree_attention.blocks(LONG))
    found = {}
    for number in (1, 2, 3, 4):
        threads(number)
        first, again = (with_gradients(compiled, given, branches, 0.3) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
        found[number] = first
    for number in (2, 3, 4):
        assert torch.equal(found[1][0], found[number][0])
        for one, other in zip(found[1], found[number], strict=True):
            torch.testing.assert_close(one, other, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", list(CLOSE))
def test_what_is_no_number_reaches_those_who_see_it_and_no_other_root(dtype: torch.dtype) -> None:
    segments = [Segment(0, 20, 24, 0, -1), Segment(24, 8, 8, 20, 0), Segment(32, 8, 8, 20, 0), Segment(40, 8, 8, 0, -1)]
    branches = native_attention.branches_of(tree_attention.blocks(segments))
    for which in (1, 2):  # a key, a value
        query, key, value, grad = inputs(48, dtype, heads=1, group=2, channels=16)
        (key, value)[which - 1][0, 18, 3] = float("nan")
        out, query_grad, *_ = with_gradients(compiled, [query, key, value, grad], branches, 0.2)
        for hurt in (torch.isnan(states).any(dim=-1).any(dim=0) for states in (out, query_grad)):
            assert hurt[18:40].all() and not hurt[40:].any()


WRONG = {
    "a gap between segments": ([[0, 8, 0], [9, 7, 0], [16, 0, 0]], []),
    "more tokens than there are": ([[0, 8, 0], [8, 9, 0], [17, 0, 0]], []),
    "fewer": ([[0, 8, 0], [8, 4, 0], [12, 0, 0]], []),
    "a segment of none": ([[0, 16, 0], [16, 0, 0], [16, 0, 0]], []),
    "a span that begins before the first token": ([[0, 8, 0], [8, 8, 0], [16, 0, 1]], [[-1, 8]]),
    "a span that reaches into the segment": ([[0, 8, 0], [8, 8, 0], [16, 0, 1]], [[0, 9]]),
    "a span of none": ([[0, 8, 0], [8, 8, 0], [16, 0, 1]], [[4, 4]]),
    "spans that nobody has": ([[0, 8, 0], [8, 8, 0], [16, 0, 9]], [[0, 8]]),
}  # fmt: skip


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_segments_that_do_not_fit_are_refused(wrong: str) -> None:
    segments, spans = WRONG[wrong]
    branches = Branches(torch.tensor(segments), torch.tensor(spans, dtype=torch.long).reshape(-1, 2))
    query, key, value, grad = inputs(16, torch.float32, 1, 1, 16)
    with pytest.raises(IndexError, match="see"):
        library().along(query, key, value, branches, 0.3, None)
    with pytest.raises(IndexError, match="see"):
        library().along_backward(grad, query, key, value, query, torch.zeros(1, 16), branches, 0.3, None)


def test_types_that_differ_are_refused() -> None:
    query, key, value, _ = inputs(16, torch.float32, 1, 1, 16)
    assert native_attention.library_for(query, key, value.bfloat16()) is None
    assert native_attention.library_for(query[..., :8], key[..., :8], value[..., :8]) is None
    with pytest.raises(TypeError, match="bfloat16"):
        library().along(query, key, value.bfloat16(), native_attention.rows_of(((2, 8),)), 0.3, None)


@pytest.mark.parametrize(("heads", "key_tokens", "value_tokens"), [(2, 16, 8), (2, 8, 8), (3, 16, 16)])
def test_shapes_that_do_not_go_together_are_refused(heads: int, key_tokens: int, value_tokens: int) -> None:
    query, key, value = torch.ones(heads, 16, 16), torch.ones(2, key_tokens, 16), torch.ones(2, value_tokens, 16)
    with pytest.raises(AssertionError):
        library().along(query, key, value, native_attention.rows_of(((2, 8),)), 0.3, None)


@pytest.mark.parametrize("layout", ["tree", "packed"])
def test_training_attends_so_keeps_no_scores_and_has_the_same_gradients(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(tiny_model(), resolved(method="full", layout=layout))
    policy.stock.set_attn_implementation(attention.register())
    store = random_store(12, shared=40)
    (batch,) = micro_batches(store, np.arange(12), 100_000, layout)
    calls = []
    for name in ("along", "along_backward"):
        stock = getattr(Native, name)
        monkeypatch.setattr(Native, name, lambda *given, stock=stock, name=name: calls.append(name) or stock(*given))

    def trained() -> tuple[dict[str, torch.Tensor], int]:
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        policy.model.zero_grad(set_to_none=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = policy.weighted_nll(batch)
        loss.backward()
        return {name: one.grad.clone() for name, one in policy.model.named_parameters() if one.grad is not None}, sum(
            sizes.values()
        )

    ours, kept = trained()
    layers = len(policy.decoder.layers)
    assert calls == ["along"] * layers + ["along_backward"] * layers
    monkeypatch.setattr(native_attention, "library_for", lambda *_: None)
    truth, more = trained()
    assert len(calls) == 2 * layers
    for name, gradient in truth.items():
        assert torch.linalg.vector_norm(ours[name] - gradient) <= 1e-5 * torch.linalg.vector_norm(gradient) + 1e-8, name
    heads, positions = policy.stock.config.num_attention_heads, batch.num_positions
    scores = (
        sum(block.num_scores for block in tree_attention.blocks(batch.tree.segments))
        if batch.tree
        else sum(place**2 for place in batch.places)
    )
    assert more - kept >= 0.9 * 4 * layers * heads * scores - 4 * layers * heads * positions
