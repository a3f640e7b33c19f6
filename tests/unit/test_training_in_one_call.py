"""Trainings on a CPU compute norms and gates as compiled functions: the same gradients, from fewer kept numbers, and only where they may."""

import pytest
import torch
from tiny_training import policy_of, random_store, resolved, tiny_model

from luthier.data.loader import packed
from luthier.kernels import native
from luthier.kernels.native import Native
from luthier.train.policy import Policy

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"needs compiled functions: {native.why_not()}")
NAMES = ("rms_norm", "rms_norm_backward", "gated", "gated_backward")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each function is called."""
    counts = dict.fromkeys(NAMES, 0)

    def counted(name: str):
        stock = getattr(Native, name)

        def call(self: Native, *given: object, **options: object) -> object:
            counts[name] += 1
            return stock(self, *given, **options)

        return call

    for name in NAMES:
        monkeypatch.setattr(Native, name, counted(name))
    return counts


def gradients(policy: Policy) -> dict[str, torch.Tensor]:
    policy.model.zero_grad()
    policy.weighted_nll(packed(random_store(20), range(20))).backward()
    return {name: one.grad.clone() for name, one in policy.model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradients_are_those_of_the_layers_as_they_are_written(
    method: str, called: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(tiny_model(), resolved(method=method))
    modules = list(policy.model.modules())
    ours = gradients(policy)
    layers = len(policy.decoder.layers)
    proofs = 1  # of each kind, beside its own
    assert called["gated"] == called["gated_backward"] == layers + proofs
    assert called["rms_norm"] == 2 * layers + 1 + proofs
    # Nothing below the first adapter has a gradient to hand on.
    assert called["rms_norm_backward"] == 2 * layers + 1 + proofs - (method == "lora")
    assert list(policy.model.modules()) == modules
    gradients(policy)  # what was found out is not found out again
    assert called["gated"] == 2 * layers + proofs and called["rms_norm"] == 2 * (2 * layers + 1) + proofs
    before = dict(called)
    monkeypatch.setattr(native, "_found", lambda: (None, "none is wanted"))
    policy._swaps.clear()
    wanted = gradients(policy)
    assert called == before
    assert ours.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.norm()))


def test_layers_that_are_computed_again_are_computed_as_they_are_written(called: dict[str, int]) -> None:
    policy = policy_of(tiny_model().train(), resolved(gradient_checkpointing=True))
    policy.compute_again("packed")
    gradients(policy)
    assert set(called.values()) == {0}


def test_a_proof_draws_no_random_numbers_of_the_training(called: dict[str, int]) -> None:
    policy = policy_of(tiny_model(), resolved(method="lora", lora={"rank": 4, "alpha": 8, "dropout": 0.5}))
    policy.model.train()
    torch.manual_seed(1)
    gradients(policy)
    after_proof = torch.rand(1)
    torch.manual_seed(1)
    gradients(policy)
    assert called["rms_norm"] > 0 and torch.equal(torch.rand(1), after_proof)
