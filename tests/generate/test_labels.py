"""The best label by search is the best of all labels scored one by one."""

import random

import pytest
import torch
from tiny_models import tiny_llama, tiny_sliding, tiny_unproven

from luthier.core.errors import SettingsError
from luthier.core.types import Prompt
from luthier.generate.engine import Engine
from luthier.generate.labels import Label, LabelScorer

END = 7


def labels(count: int, seed: int = 0) -> list[Label]:
    """Labels that fork early, late and not at all, of one to six tokens."""
    rng = random.Random(seed)
    paths = {
        tuple(rng.choice((30, 31, 32, 400 + rng.randrange(50))) for _ in range(rng.randint(1, 6))) for _ in range(count)
    }
    return [Label(f"label {path}", (*path, END)) for path in sorted(paths)]


def prompts(count: int, shared: int = 0) -> list[Prompt]:
    rng = random.Random(count)
    head = [rng.randrange(24, 512) for _ in range(shared)]
    return [Prompt(str(i), (*head, *(rng.randrange(24, 512) for _ in range(rng.randint(1, 30))))) for i in range(count)]


def scorer(model: torch.nn.Module, known: list[Label], **options) -> LabelScorer:
    engine = Engine(model, (END,), 0, unrender=str, max_new_tokens=12, **options)
    return LabelScorer(engine, known)


@torch.no_grad()
def by_force(model: torch.nn.Module, prompt: Prompt, known: list[Label]) -> list[float]:
    out = []
    for label in known:
        tokens = torch.tensor([[*prompt.tokens, *label.tokens]])
        logs = torch.log_softmax(model(tokens).logits[0].float(), dim=-1)
        start = len(prompt.tokens) - 1
        out.append(float(sum(logs[start + i, token] for i, token in enumerate(label.tokens))))
    return out


@pytest.mark.parametrize(
    ("make", "shared"), [(tiny_llama, 0), (tiny_llama, 40), (tiny_unproven, 40), (tiny_sliding, 0)]
)
def test_the_search_finds_the_most_probable_label_of_all(make, shared: int) -> None:
    model, known, asked = make(), labels(40), prompts(6, shared)
    found = scorer(model, known, batch_size=6).score_batch(asked)
    for prompt, one in zip(asked, found):
        scores = by_force(model, prompt, known)
        best = max(range(len(known)), key=scores.__getitem__)
        assert one.label == known[best]
        assert one.log_probability == pytest.approx(scores[best], abs=1e-4)
    assert min(one.runs for one in found) < len(known) / 2
    assert len({one.label for one in found}) > 1


def test_completions_name_their_rows_and_come_in_their_order() -> None:
    model, known, asked = tiny_llama(), labels(20), prompts(9)
    one = scorer(model, known, batch_size=4)
    done = one(asked)
    assert [answer.row for answer in done] == [prompt.row for prompt in asked]
    assert [answer.text for answer in done] == [scored.label.text for p in asked for scored in one.score_batch([p])]
    assert {answer.finish_reason for answer in done} == {"stop"}


def test_the_model_s_ending_counts() -> None:
    """A label that begins another competes by the probability of ending."""
    model = tiny_llama()
    short, long = Label("a", (30, END)), Label("a b", (30, 31, END))
    for prompt in prompts(8):
        (one,) = scorer(model, [short, long]).score_batch([prompt])
        scores = by_force(model, prompt, [short, long])
        assert one.label == (short if scores[0] >= scores[1] else long)


def test_labels_that_are_the_same_and_no_labels_are_refused() -> None:
    with pytest.raises(SettingsError, match="told apart"):
        scorer(tiny_llama(), [Label("a", (30, END)), Label("b", (30, END))])
    with pytest.raises(SettingsError, match="no labels"):
        scorer(tiny_llama(), [])
