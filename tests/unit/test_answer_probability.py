"""The probability that comes with an answer is that which the model gives to its tokens, alone or held to a form."""

import math

import pytest
import torch
from tiny_models import tiny_llama

from luthier.core.types import Prompt
from luthier.generate.engine import Engine
from luthier.generate.labels import Label, LabelScorer
from luthier.generate.sample import log_probability

STOP = 2
PROMPTS = [Prompt(f"r{n}", tuple(range(5, 9 + n))) for n in range(4)]


def engine(model: torch.nn.Module, **options: object) -> Engine:
    return Engine(model, [STOP], 0, unrender=str, max_new_tokens=6, **options)  # type: ignore[arg-type]


@torch.no_grad()
def by_hand(model: torch.nn.Module, prompt: Prompt, answer: tuple[int, ...]) -> float:
    tokens = torch.tensor([[*prompt.tokens, *answer]])
    logs = model(tokens).logits[0].float().log_softmax(dim=-1)
    return sum(float(logs[len(prompt.tokens) - 1 + n, token]) for n, token in enumerate(answer))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_it_is_the_sum_over_the_tokens_with_the_end_of_turn(temperature: float) -> None:
    model = tiny_llama()
    for prompt, found in zip(PROMPTS, engine(model, temperature=temperature)(PROMPTS), strict=True):
        assert found.log_probability == pytest.approx(by_hand(model, prompt, found.tokens), abs=1e-4)


def test_a_label_has_the_probability_by_which_it_was_found() -> None:
    model = tiny_llama()
    labels = [Label("one", (7, 9, STOP)), Label("two", (7, 8, 4, STOP)), Label("three", (11, STOP))]
    for prompt, found in zip(PROMPTS, LabelScorer(engine(model), labels)(PROMPTS), strict=True):
        best = max(by_hand(model, prompt, label.tokens) for label in labels)
        assert found.log_probability == pytest.approx(best, abs=1e-4)


def test_what_may_not_come_takes_no_probability() -> None:
    logits = torch.tensor([[1.0, 3.0, -torch.inf], [-torch.inf, 3.0, -torch.inf]])
    found = log_probability(logits, torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx([-math.log(1 + math.exp(2)), 0.0])
