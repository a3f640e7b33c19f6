"""Pairs, groups and candidates through one tree: what separate rows give, for objectives that are not linear in tokens."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_tree_families import Gradients, assert_same, gradients
from tiny_families import VOCAB, tiny
from transformers import PreTrainedModel

from luthier.core.types import Rendered
from luthier.data.groups import AnswerTargets, answer_targets, behind
from luthier.data.loader import SequenceStore, as_tree, steps_of_epoch
from luthier.kernels import attention, head, reference
from luthier.models.adapters import train_all
from luthier.train.policy import Policy

Loss = Callable[[torch.Tensor], torch.Tensor]
RNG = np.random.default_rng(4)


def answers_of(number: int, prompt: int = 40) -> SequenceStore:
    """Two prompts with so many answers each; answers of one prompt begin alike, and one begins another."""
    sequences: list[Rendered] = []
    for row in ("a", "b"):
        start = RNG.integers(3, VOCAB, prompt).tolist()
        alike = RNG.integers(3, VOCAB, 9).tolist()
        answers = [alike, *([*alike, *RNG.integers(3, VOCAB, 3 + n).tolist()] for n in range(number - 1))]
        sequences += behind(row, start, answers)
    return SequenceStore(sequences)


def preference(logp_R: torch.Tensor) -> torch.Tensor:
    """Direct preference (Rafailov et al. 2023, arXiv 2305.18290) against a reference that gave -30 to every answer."""
    return -torch.nn.functional.logsigmoid(0.1 * (logp_R[1::2] - logp_R[0::2])).sum()


def clipped(logp_R: torch.Tensor) -> torch.Tensor:
    """Ratios to an old policy, clipped, weighed by advantages of both signs (Schulman et al. 2017, arXiv 1707.06347)."""
    ratio_R = (0.02 * (logp_R - logp_R.detach() + torch.linspace(-20, 20, len(logp_R)))).exp()
    advantage_R = torch.linspace(-1, 1, len(logp_R))
    return -torch.minimum(ratio_R * advantage_R, ratio_R.clamp(0.8, 1.2) * advantage_R).sum()


def one_by_one(model: PreTrainedModel, store: SequenceStore, loss: Loss) -> tuple[torch.Tensor, Gradients]:
    """Each answer's log-probability by the stock model with eager attention, and the gradients of a loss of all."""
    model.set_attn_implementation("eager")
    model.zero_grad(set_to_none=True)
    found = []
    for index in range(len(store)):
        tokens = torch.from_numpy(store.tokens(index).astype(np.int64))[None]
        logp = torch.log_softmax(model(input_ids=tokens, use_cache=False).logits[0, :-1].float(), -1)
        own = logp.gather(1, tokens[0, 1:, None])[:, 0]
        found.append((own * torch.from_numpy(store.weights(index)[1:])).sum())
    logp_R = torch.stack(found)
    loss(logp_R).backward()
    return logp_R.detach(), gradients(model)


@pytest.mark.parametrize(("family", "layout"), [("llama", "tree"), ("gemma2", "cached_tree"), ("lfm2", "cached_tree")])
@pytest.mark.parametrize(("loss", "number"), [(preference, 2), (clipped, 5)])
def test_losses_of_whole_answers_have_the_gradients_of_separate_rows(family, layout, loss, number):
    model, store = tiny(family), answers_of(number)
    truth, stock = one_by_one(model, store, loss)
    policy = Policy(train_all(model))
    if layout == "tree":
        policy.stock.set_attn_implementation(attention.register())
    batch = as_tree(store, range(len(store)), layout)
    assert batch.num_positions < store.num_tokens
    answers = answer_targets(store, range(len(store)), batch)
    assert len(answers.target_P) > len(set(answers.target_P.tolist())), "answers that begin alike share targets"
    policy.model.zero_grad(set_to_none=True)
    logp_R = policy.answer_logp(batch, answers)
    torch.testing.assert_close(logp_R.detach(), truth, rtol=1e-4, atol=1e-4)
    loss(logp_R).backward()
    assert_same(gradients(policy.model), stock)


def test_many_candidates_are_scored_behind_a_prompt_that_is_computed_once():
    prompt = RNG.integers(3, VOCAB, 60).tolist()
    store = SequenceStore(behind("a", prompt, [RNG.integers(3, VOCAB, 1 + n % 4).tolist() for n in range(24)]))
    model = tiny("llama")
    truth, _ = one_by_one(model, store, torch.sum)
    policy = Policy(model)
    policy.stock.set_attn_implementation(attention.register())
    order = np.random.default_rng(0).permutation(len(store))
    batch = as_tree(store, order, "tree")
    assert batch.num_positions < store.num_tokens / 4
    with torch.no_grad():
        found = policy.answer_logp(batch, answer_targets(store, order, batch))
    torch.testing.assert_close(found, truth[torch.from_numpy(order)], rtol=1e-4, atol=1e-4)


def test_the_answers_of_a_prompt_stand_in_one_step():
    store = SequenceStore([s for n in range(12) for s in behind(f"row-{n}", [n + 3] * 20, [[5, 6], [7, 8, 9]])])
    for step in steps_of_epoch(store.lengths, 100, 0, 0, store.kin):
        rows = [store.rows[index] for index in step]
        middle = [row for row in rows if row not in (rows[0], rows[-1])]
        assert all(rows.count(row) == 2 for row in middle)


def test_a_weight_of_one_sequence_does_not_count_in_another():
    """The first trains a token that the second only reads."""
    tokens = np.arange(3, 33, dtype=np.int32)
    weights = np.zeros((2, 30), dtype=np.float32)
    weights[0, 10:] = 1
    weights[1, 20:] = 0.5
    store = SequenceStore(
        [
            Rendered("a", np.append(tokens, extra).astype(np.int32), np.append(weight, 1.0).astype(np.float32))
            for weight, extra in zip(weights, (40, 41), strict=True)
        ]
    )
    batch = as_tree(store, range(2), "tree")
    answers: AnswerTargets = answer_targets(store, range(2), batch)
    sums = [answers.weight_P[answers.sequence_P == number].sum() for number in range(2)]
    assert sums == [21.0, 6.0]


@pytest.mark.parametrize("bend", [head.STRAIGHT, head.Bend(3.0, 5.0)])
def test_the_heads_log_probabilities_and_their_gradients_are_those_of_the_definition(bend):
    rng = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=rng, dtype=torch.float32) for shape in ((900, 8), (50, 8))]
    index_T, target_T = torch.randint(900, (1300,), generator=rng), torch.randint(50, (1300,), generator=rng)
    towards_T = torch.randn(1300, generator=rng)
    found = []
    for ours in (True, False):
        hidden, weight = (x.clone().requires_grad_() for x in inputs)
        if ours:
            logp_T = head.target_logp(hidden, index_T, target_T, weight, bend)
        else:
            logp_T = reference.target_logp(hidden, index_T, target_T, weight, *bend)
        (logp_T.square() * towards_T).sum().backward()
        found.append([logp_T.detach(), hidden.grad, weight.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
