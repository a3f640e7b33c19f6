"""The fast kernels against plain torch and against the stock model's own attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import policy_of, random_store, resolved, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from luthier.core.errors import ModelError, ProofFailed
from luthier.data.loader import packed, padded
from luthier.kernels import attention, head, reference
from luthier.train.policy import alone


def leaf(*shape: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale
    return values.to(dtype).requires_grad_(True)


def targets(
    num_targets: int, num_hidden: int, vocab_size: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions with repeats, tokens, and weights some of which are zero."""
    rng = torch.Generator().manual_seed(seed)
    return (
        torch.randint(num_hidden, (num_targets,), generator=rng),
        torch.randint(vocab_size, (num_targets,), generator=rng),
        torch.randint(3, (num_targets,), generator=rng) / 2,
    )


@pytest.mark.parametrize("num_targets", [1, 511, 512, 513, 1025])
@pytest.mark.parametrize("at_once", [True, False])
def test_head_equals_reference_at_the_borders_of_chunks(num_targets, at_once, monkeypatch):
    if not at_once:
        monkeypatch.setattr(head, "_MOST_LOGITS", head.CHUNK * 96)
    index_T, target_T, weight_T = targets(
        num_targets, 40, 96, seed=num_targets
    )  # 40 states: every one predicts several
    results = []
    for kernel in (head.weighted_nll, reference.weighted_nll):
        hidden, weight = leaf(40, 16, seed=1), leaf(96, 16, seed=2)
        loss = kernel(hidden, index_T, target_T, weight_T, weight)
        (loss * 0.37).backward()
        results.append((loss.detach(), hidden.grad, weight.grad))
    for ours, truth in zip(*results, strict=True):
        assert torch.linalg.vector_norm(ours - truth) <= 1e-5 * torch.linalg.vector_norm(truth)
    hidden, weight = leaf(40, 16, seed=1), leaf(96, 16, seed=2)
    scores = head.target_scores(hidden, index_T, target_T, weight)
    torch.testing.assert_close(scores.logp_T, reference.target_logp(hidden, index_T, target_T, weight).detach())
    best_T = (hidden[index_T] @ weight.t()).argmax(-1)
    assert torch.equal(scores.greedy_T, best_T == target_T)
    assert head.target_scores(hidden, index_T, best_T, weight).greedy_T.all()


def test_a_trained_head_writes_its_gradient_once_for_targets_that_fit_into_one_chunk(monkeypatch):
    """In bfloat16 it is rounded once, as the whole product is; in two chunks it is added up in float32 and rounded twice."""
    index_T, target_T, weight_T = targets(900, 40, 96, seed=5)
    grads = []
    for most in (900 * 96, head.CHUNK * 96):
        monkeypatch.setattr(head, "_MOST_LOGITS", most)
        hidden, weight = (leaf(n, 16, seed=n).detach().bfloat16().requires_grad_() for n in (40, 96))
        head.weighted_nll(hidden, index_T, target_T, weight_T, weight).backward()
        grads.append(weight.grad)
    assert not torch.equal(*grads)
    assert torch.linalg.vector_norm(grads[0] - grads[1]) <= 0.01 * torch.linalg.vector_norm(grads[0])


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that comes of an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, list | tuple) else (out,):
            if isinstance(made, torch.Tensor):
                self.numbers = max(self.numbers, made.numel())
        return out


@pytest.mark.parametrize("use", ["scoring", "linear", "not linear"])
def test_logits_are_held_a_chunk_at_a_time_in_validation_and_in_training(use, monkeypatch):
    monkeypatch.setattr(head, "_MOST_LOGITS", 2 * head.CHUNK * 96)
    index_T, target_T, weight_T = targets(6 * head.CHUNK, 40, 96, seed=5)
    hidden, weight = leaf(40, 16, seed=1), leaf(96, 16, seed=2)
    with Largest() as seen:
        if use == "scoring":
            head.target_scores(hidden, index_T, target_T, weight)
        elif use == "linear":
            head.weighted_nll(hidden, index_T, target_T, weight_T, weight).backward()
        else:
            head.target_logp(hidden, index_T, target_T, weight).square().sum().backward()
    assert seen.numbers <= (1 if use == "scoring" else 2) * head.CHUNK * 96


@pytest.mark.parametrize("bend", [head.Bend(4.0), head.Bend(cap=3.0), head.Bend(0.5, 2.0)])
def test_head_bends_logits_as_the_reference_does(bend):
    index_T, target_T, weight_T = targets(600, 40, 96, seed=7)
    results = []
    for kernel, bent in ((head.weighted_nll, (bend,)), (reference.weighted_nll, bend)):
        hidden, weight = leaf(40, 16, seed=1), leaf(96, 16, seed=2)
        loss = kernel(hidden, index_T, target_T, weight_T, weight, *bent)
        loss.backward()
        results.append((loss.detach(), hidden.grad, weight.grad))
    for ours, truth in zip(*results, strict=True):
        assert torch.linalg.vector_norm(ours - truth) <= 1e-5 * torch.linalg.vector_norm(truth)
    logp = head.target_scores(leaf(40, 16, seed=1), index_T, target_T, leaf(96, 16, seed=2), bend).logp_T
    assert -(logp * weight_T).sum().item() == pytest.approx(results[1][0].item(), rel=1e-5)


class Products(TorchDispatchMode):
    """Notes the shapes of what matrix products make."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if "mm" in str(func):
            self.made.append(tuple(out.shape))
        return out


@pytest.mark.parametrize(("linear", "again"), [(True, 0), (False, 2)])
def test_a_loss_that_is_linear_in_log_probabilities_makes_its_logits_once(linear, again, monkeypatch):
    """Its gradient is taken in the forward pass, chunk by chunk; for others the backward pass makes each chunk once more."""
    monkeypatch.setattr(head, "_MOST_LOGITS", head.CHUNK * 96)
    index_T, target_T, weight_T = targets(2 * head.CHUNK, 40, 96, seed=5)
    hidden, weight = leaf(40, 16, seed=1), leaf(96, 16, seed=2)
    with Products() as forward:
        if linear:
            loss = head.weighted_nll(hidden, index_T, target_T, weight_T, weight)
        else:
            loss = head.target_logp(hidden, index_T, target_T, weight).square().sum()
    with Products() as backward:
        loss.backward()
    chunk = (head.CHUNK, 96)
    assert (forward.made.count(chunk), backward.made.count(chunk)) == (2, again)


@pytest.mark.parametrize(("wants_hidden", "wants_weight"), [(True, False), (False, True)])
def test_head_computes_only_the_gradients_that_are_asked_for(wants_hidden, wants_weight):
    hidden, weight = (
        leaf(8, 4, seed=1).detach().requires_grad_(wants_hidden),
        leaf(9, 4, seed=2).detach().requires_grad_(wants_weight),
    )
    with Products() as products:
        head.weighted_nll(hidden, *targets(5, 8, 9, seed=3), weight).backward()
    assert (hidden.grad is not None, weight.grad is not None) == (wants_hidden, wants_weight)
    assert ((5, 4) in products.made, (9, 4) in products.made) == (wants_hidden, wants_weight)


def test_head_in_bfloat16_stays_near_float32():
    index_T, target_T, weight_T = targets(600, 300, 128, seed=5)
    exact = head.weighted_nll(leaf(300, 32, seed=1), index_T, target_T, weight_T, leaf(128, 32, seed=2))
    rough = head.weighted_nll(
        leaf(300, 32, seed=1, dtype=torch.bfloat16),
        index_T,
        target_T,
        weight_T,
        leaf(128, 32, seed=2, dtype=torch.bfloat16),
    )
    assert rough.dtype == torch.float32
    assert abs(rough - exact) <= 0.01 * exact


@settings(max_examples=20, deadline=None)
@given(heads=st.integers(1, 3), number=st.integers(1, 3), length=st.integers(1, 17), scale=st.floats(0.05, 2.0))
def test_causal_attention_equals_eager(heads, number, length, scale):
    results = []
    for ours in (True, False):
        query, key, value = (leaf(heads, number, length, 8, seed=seed) for seed in (1, 2, 3))
        if ours:
            out = attention.causal_attention(query, key, value, scale)
        else:
            visible = torch.ones(length, length).tril().bool()
            scores = (query @ key.transpose(-1, -2) * scale).masked_fill(~visible, float("-inf"))
            out = torch.softmax(scores, dim=-1) @ value
        (out * leaf(heads, number, length, 8, seed=4).detach()).sum().backward()
        results.append((out.detach(), query.grad, key.grad, value.grad))
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-5)


def test_equal_runs_group_neighbours_of_one_length():
    assert attention.equal_runs((5, 5, 3, 3, 3, 5)) == ((2, 5), (3, 3), (1, 5))


def test_packed_attention_does_not_change_with_its_neighbours():
    def out(lengths: tuple[int, ...]) -> torch.Tensor:
        query, key, value = (leaf(1, 4, 30, 8, seed=seed)[:, :, : sum(lengths)] for seed in (1, 2, 3))
        module = torch.nn.Module()
        return attention.packed_attention(
            module, query, key[:, :2], value[:, :2], None, runs=attention.equal_runs(lengths)
        )[0]

    together, one = out((7, 7, 9)), out((7,))
    torch.testing.assert_close(together[:, :7], one)
    assert not torch.allclose(together[:, 7:14], out((14,))[:, 7:14])


@pytest.mark.parametrize("length", [attention.LONGEST_SHORT[torch.float32], attention.LONGEST_SHORT[torch.float32] + 1])
def test_short_and_long_sequences_agree_with_torch(length):
    query, key, value = (leaf(1, 2, 2 * length, 8, seed=seed) for seed in (1, 2, 3))
    out, _ = attention.packed_attention(torch.nn.Module(), query, key, value, None, runs=((2, length),))
    apart = [x.unflatten(2, (2, length)).squeeze(0) for x in (query, key, value)]
    truth = torch.nn.functional.scaled_dot_product_attention(*apart, is_causal=True).flatten(1, 2).transpose(0, 1)[None]
    torch.testing.assert_close(out, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [{"softcap": 50.0}, {"sliding_window": 8}, {"s_aux": torch.zeros(4)}])
def test_packed_attention_refuses_what_it_does_not_compute(given):
    query = torch.zeros(1, 4, 6, 8)
    with pytest.raises(ModelError, match="padded"):
        attention.packed_attention(torch.nn.Module(), query, query, query, None, runs=((1, 6),), **given)


def test_packed_attention_refuses_to_go_on_from_a_cache():
    """Its rows begin with their first token: keys from before would be seen as if they stood at the end."""
    key = torch.zeros(1, 4, 9, 8)
    with pytest.raises(AssertionError, match="no cache"):
        attention.packed_attention(torch.nn.Module(), key[:, :, :6], key, key, None)


@pytest.mark.parametrize("lay", [padded, packed])
def test_alone_takes_every_sequence_out_as_it_was(lay):
    store = random_store(4, seed=3)
    for index, (row, own) in enumerate(alone(lay(store, range(4)))):
        single = padded(store, [index])
        assert row.rows == single.rows
        assert len(own) == row.num_trained == single.num_trained
        for name in ("tokens_BL", "position_BL", "index_T", "target_T", "weight_T"):
            assert (getattr(row, name) == getattr(single, name)).all(), name


def test_prove_passes_for_both_layouts_and_leaves_the_model_as_it_was():
    for layout in ("packed", "padded"):
        policy = policy_of(tiny_model().train(), resolved(layout=layout))
        before = policy.stock.config._attn_implementation
        lay = packed if layout == "packed" else padded
        assert policy.prove(lay(random_store(3), range(3)))["head_max_difference"] <= 1e-4
        assert policy.stock.config._attn_implementation == before
        assert policy.model.training


def test_prove_finds_a_leak_between_packed_rows():
    """Stock attention over a packed row sees the neighbours, which the proof must notice."""
    policy = policy_of(tiny_model(), resolved(layout="packed"))
    batch = packed(random_store(3), range(3))
    leaking = policy_of(tiny_model(), resolved(layout="packed"))
    leaking._inputs = lambda some: {name: value for name, value in policy._inputs(some).items() if name != "runs"}
    with pytest.raises(ProofFailed, match="differs"):
        leaking.prove(batch)


def test_prove_finds_logits_that_are_changed_behind_the_output_layer():
    policy = policy_of(tiny_model(), resolved(layout="padded"))
    policy.stock.lm_head.register_forward_hook(lambda module, inputs, logits: 30 * torch.tanh(logits / 30) * 0.9)
    with pytest.raises(ProofFailed, match="logits"):
        policy.prove(padded(random_store(2), range(2)))
