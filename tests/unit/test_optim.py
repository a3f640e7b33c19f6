"""AdamW over float32 masters against torch's own, and what the masters are for."""

import pytest
import torch
from tiny_training import resolved

from luthier.train.optim import MasterAdamW


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, torch.nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    return {
        "matrix": torch.nn.Parameter(torch.randn(6, 5, generator=rng).to(dtype)),
        "vector": torch.nn.Parameter(torch.randn(7, generator=rng).to(dtype)),
    }


def give_gradients(trained: dict[str, torch.nn.Parameter], seed: int, scale: float = 1.0) -> None:
    rng = torch.Generator().manual_seed(seed)
    for parameter in trained.values():
        parameter.grad = (torch.randn(parameter.shape, generator=rng) * scale).to(parameter.dtype)


def walk(ours: MasterAdamW, trained: dict[str, torch.nn.Parameter], steps: range, lr: float = 0.01) -> None:
    for step in steps:
        give_gradients(trained, step)
        ours.accumulate()
        ours.clip_gradients()
        ours.step(lr)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_torch_adamw_in_float32(weight_decay):
    trained, theirs = parameters(), parameters()
    ours = MasterAdamW(trained, resolved(clip=0.0, betas=(0.8, 0.95), weight_decay=weight_decay))
    groups = [
        {"params": [theirs["matrix"]], "weight_decay": weight_decay},
        {"params": [theirs["vector"]], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95), eps=1e-8)
    for step in range(20):
        give_gradients(theirs, step)
        adamw.step()
    walk(ours, trained, range(20))
    for name, parameter in trained.items():
        torch.testing.assert_close(parameter, theirs[name], rtol=1e-6, atol=1e-7)


def test_all_weights_are_moved_in_one_fused_call():
    trained = parameters()
    ours = MasterAdamW(trained, resolved(clip=0.0))
    give_gradients(trained, 0)
    with torch.profiler.profile() as profile:
        ours.step(0.01)
    calls = [event.name for event in profile.events() if event.name == "aten::_fused_adamw_"]
    assert len(calls) == 2, "matrices and vectors, which decay differently"


def test_bfloat16_weights_move_where_pure_bfloat16_would_not():
    """An update of 1/10,000 of a weight is below bfloat16's last bit; in the master it adds up."""
    pure = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    adamw = torch.optim.AdamW([pure], lr=1e-4, weight_decay=0.0)
    weight = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    ours = MasterAdamW({"weight": weight}, resolved(clip=0.0))
    for _ in range(100):
        pure.grad, weight.grad = torch.ones_like(pure), torch.ones_like(weight)
        adamw.step()
        ours.accumulate()
        ours.step(1e-4)
    assert (pure == 1).all()
    torch.testing.assert_close(weight.float(), torch.full((4, 4), 0.99), atol=0.002, rtol=0)


def test_gradients_of_micro_batches_are_added_in_float32():
    weight = torch.nn.Parameter(torch.ones(1, 1, dtype=torch.bfloat16))
    ours = MasterAdamW({"weight": weight}, resolved())
    for _ in range(300):  # in bfloat16 the sum would stay at 256
        weight.grad = torch.ones_like(weight)
        ours.accumulate()
    assert ours.clip_gradients() == 300.0


def test_clipping_scales_to_the_norm_and_zero_turns_it_off():
    norms = {}
    for clip in (0.5, 0.0):
        trained = parameters()
        ours = MasterAdamW(trained, resolved(clip=clip))
        give_gradients(trained, 0, scale=10.0)
        before = ours.clip_gradients()
        left = torch.nn.utils.get_total_norm([p.grad for p in trained.values()]).item()
        norms[clip] = (before, left)
    assert norms[0.5] == (pytest.approx(norms[0.0][0]), pytest.approx(0.5, rel=1e-4))
    assert norms[0.0][0] == norms[0.0][1] > 10


def test_a_small_gradient_is_not_scaled():
    trained = parameters()
    give_gradients(trained, 0, scale=1e-3)
    before = trained["matrix"].grad.clone()
    MasterAdamW(trained, resolved(clip=1.0)).clip_gradients()
    assert torch.equal(trained["matrix"].grad, before)


def test_weight_decay_shrinks_matrices_only():
    trained = parameters()
    start = {name: parameter.detach().clone() for name, parameter in trained.items()}
    ours = MasterAdamW(trained, resolved(weight_decay=0.5, clip=0.0))
    for parameter in trained.values():
        parameter.grad = torch.zeros_like(parameter)
    ours.step(0.1)
    torch.testing.assert_close(trained["matrix"].detach(), start["matrix"] * 0.95)
    assert torch.equal(trained["vector"], start["vector"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_and_load_continue_to_the_bit(dtype):
    straight, first, second = parameters(dtype), parameters(dtype), parameters(dtype)
    walk(MasterAdamW(straight, resolved()), straight, range(10))
    begun = MasterAdamW(first, resolved())
    walk(begun, first, range(6))
    saved = {name: tensor.clone() for name, tensor in begun.tensors().items()}
    assert all(tensor.dtype == torch.float32 for tensor in saved.values())
    resumed = MasterAdamW(second, resolved())
    resumed.load(saved)
    walk(resumed, second, range(6, 10))
    for name, parameter in straight.items():
        assert torch.equal(parameter, second[name])


def test_mismatch_names_the_weight_that_is_missing_or_misshapen():
    ours = MasterAdamW(parameters(), resolved())
    tensors = ours.tensors()
    assert ours.mismatch(tensors) is None
    assert "matrix is not there" in str(ours.mismatch({"master.vector": tensors["master.vector"]}))
    assert "shape [3]" in str(ours.mismatch(tensors | {"master.vector": torch.zeros(3)}))
