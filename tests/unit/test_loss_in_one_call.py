"""The loss and its gradient as one compiled call: what torch gives, written over the logits."""

import pytest
import torch

from luthier.kernels import head, native
from luthier.kernels.native import Native

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"needs compiled functions: {native.why_not()}")
WORDS = 16 * 9 + 5  # a line ends between two vectors


def library() -> Native:
    found = native.library()
    assert found is not None
    return found


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-3)])
def test_the_gradient_is_the_softmax_without_the_target(dtype: torch.dtype, close: float) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = (6 * torch.randn(33, WORDS, generator=rng)).to(dtype)
    target = torch.randint(WORDS, (33,), generator=rng)
    target[:2] = torch.tensor([0, WORDS - 1])
    weight = torch.rand(33, generator=rng)
    weight[3] = 0
    wide = logits.double().requires_grad_()
    truth = torch.log_softmax(wide, dim=-1)[range(33), target]
    (slope,) = torch.autograd.grad(-(truth * weight).sum(), wide)
    logp = library().nll_gradient(logits, target, weight)
    torch.testing.assert_close(logp.double(), truth.detach(), rtol=1e-5, atol=2e-5)
    assert (logits.double() - slope).norm() <= close * slope.norm()
    assert not logits[3].any()


@pytest.mark.parametrize("wrong", [-1, WORDS])
def test_a_target_that_is_no_word_is_refused_and_nothing_is_written(wrong: int) -> None:
    logits = torch.ones(2, WORDS)
    with pytest.raises(IndexError, match="target"):
        library().nll_gradient(logits, torch.tensor([0, wrong]), torch.ones(2))
    assert torch.equal(logits, torch.ones(2, WORDS))


def test_fewer_targets_than_lines_are_refused() -> None:
    with pytest.raises(AssertionError):
        library().nll_gradient(torch.ones(2, WORDS), torch.tensor([0]), torch.ones(1))


def test_what_is_no_number_stays_none() -> None:
    for place in (0, 40, WORDS - 1):
        logits = torch.ones(2, WORDS)
        logits[0, place] = float("nan")
        logp = library().nll_gradient(logits, torch.tensor([3, 3]), torch.ones(2))
        assert torch.isnan(logp[0]) and torch.isnan(logits[0]).all()
        assert torch.isfinite(logp[1]) and torch.isfinite(logits[1]).all()


@pytest.mark.parametrize("bend", [head.STRAIGHT, head.Bend(cap=5.0)])
@pytest.mark.parametrize("trains_words", [False, True])
def test_training_takes_it_and_learns_the_same(
    bend: head.Bend, trains_words: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More targets than a chunk has; where logits are bent they are gone over as before."""
    calls = []
    stock = Native.nll_gradient
    monkeypatch.setattr(Native, "nll_gradient", lambda *given: calls.append(given) or stock(*given))

    def trained() -> list[torch.Tensor]:
        rng = torch.Generator().manual_seed(1)
        hidden = torch.randn(300, 32, generator=rng).requires_grad_()
        words = torch.randn(WORDS, 32, generator=rng).requires_grad_(trains_words)
        index, target = torch.randint(300, (700,), generator=rng), torch.randint(WORDS, (700,), generator=rng)
        loss = head.weighted_nll(hidden, index, target, torch.rand(700, generator=rng), words, bend)
        loss.backward()
        return [one for one in (loss.detach(), hidden.grad, words.grad) if one is not None]

    ours = trained()
    assert bool(calls) == (bend == head.STRAIGHT)
    monkeypatch.setattr(native, "for_type", lambda _: None)
    truth = trained()
    assert len(ours) == len(truth) == 2 + trains_words
    for one, other in zip(ours, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
