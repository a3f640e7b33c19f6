"""Rows that lie flat answer as the stock model does for each alone, with eager attention, and read once what they share."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tiny_families import VOCAB, tiny
from tiny_models import tiny_llama, tiny_sliding
from transformers import PreTrainedModel

from luthier.core.errors import ModelError
from luthier.core.types import Prompt
from luthier.generate import passes
from luthier.generate.engine import Engine, evaluating
from luthier.generate.flat import PROVEN, FlatRows, lies_flat, may_lie_flat
from luthier.generate.lines import Lines
from luthier.generate.passes import Step
from luthier.kernels import line_attention, native
from luthier.kernels.line_attention import Pass
from luthier.kernels.native import WIDTH

STOPS = (2, 3, 4)
NEW = 12
FULL = {"layer_types": ["full_attention"] * 2}
# The kind of each family whose layers all attend to everything.
KINDS = {
    "granite": ("granite", {}),
    "llama": ("llama", {}),
    "mistral": ("mistral", {"sliding_window": None}),
    "olmo2": ("olmo2", {}),
    "phi3": ("phi3, Phi-4", {}),
    "qwen2": ("qwen2", {"use_sliding_window": False, "sliding_window": None, **FULL}),
    "qwen3": ("qwen3", {}),
    "qwen3_moe": ("qwen3_moe", {}),
    "smollm3": ("smollm3", {"use_sliding_window": False, "sliding_window": None, **FULL}),
}


def prompts(count: int, shared: int, vocabulary: int = VOCAB) -> list[Prompt]:
    rng = random.Random(count + shared)
    head = [rng.randrange(5, vocabulary) for _ in range(shared)]
    tails = [[rng.randrange(5, vocabulary) for _ in range(rng.randint(1, 30))] for _ in range(count)]
    return [Prompt(str(row), (*head, *tail)) for row, tail in enumerate(tails)]


def alone(model: PreTrainedModel, asked: list[Prompt]) -> list[list[int]]:
    """The stock model's answers, row by row through eager attention."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    out = []
    for prompt in asked:
        answer = model.generate(
            torch.tensor([prompt.tokens]), max_new_tokens=NEW, do_sample=False, eos_token_id=list(STOPS), pad_token_id=0
        )
        out.append(answer[0, len(prompt.tokens) :].tolist())
    model.set_attn_implementation(before)
    return out


def answers(model: PreTrainedModel, asked: list[Prompt]) -> list[list[int]]:
    engine = Engine(model, STOPS, 0, unrender=str, max_new_tokens=NEW, batch_size=len(asked))
    return [list(answer.tokens) for answer in engine(asked)]


def test_every_family_on_the_list_is_proven_here() -> None:
    assert set(KINDS) == PROVEN


# Compiled attention is for heads of whole vectors; others go through torch.
@pytest.fixture(params=[8, WIDTH], ids=["torch", "compiled"])
def channels(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def llama(channels: int) -> PreTrainedModel:
    return tiny_llama(head_dim=channels)


@pytest.mark.parametrize("family", sorted(PROVEN))
def test_rows_answer_as_the_stock_model_does_for_each_alone(family: str, channels: int) -> None:
    kind, changes = KINDS[family]
    model = tiny(kind, **changes, head_dim=channels, hidden_size=4 * channels)
    model.set_attn_implementation("sdpa")
    assert may_lie_flat(model)
    for shared in (0, 20):
        asked = prompts(9, shared)
        assert answers(model, asked) == alone(model, asked)


def all_columns(self: Lines, steps: Sequence[Step]) -> Pass:
    told = PASS(self, steps)
    return replace(told, rows=told.rows._replace(start_n=self.columns - told.rows.count_n))


def no_beginning(self: Lines, steps: Sequence[Step]) -> Pass:
    told = PASS(self, steps)
    return replace(told, rows=told.rows._replace(seen_n=torch.full_like(told.rows.seen_n, -1)))


PASS = Lines._pass
FAULTS = {
    8: {
        "hidden columns are seen": ("_added", lambda self, hidden_nTC: torch.zeros(hidden_nTC.shape)[:, None]),
        "the beginning is not seen": ("_behind", lambda self, steps: ()),
    },
    WIDTH: {
        "hidden columns are seen": ("_pass", all_columns),
        "the beginning is not seen": ("_pass", no_beginning),
    },
}


@pytest.mark.parametrize("fault", sorted(FAULTS[8]))
def test_a_fault_in_what_rows_see_changes_answers(
    fault: str, llama: PreTrainedModel, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if channels == WIDTH and native.library() is None:
        pytest.skip(native.why_not())
    asked = prompts(9, 20, 512)
    assert answers(llama, asked) == alone(llama, asked)
    name, fault_of = FAULTS[channels][fault]
    monkeypatch.setattr(Lines, name, lambda self, steps: fault_of(self, steps))
    assert answers(llama, asked) != alone(llama, asked)


def test_what_prompts_share_runs_once_stands_once_and_nothing_is_padded(llama: PreTrainedModel) -> None:
    model, asked = llama, prompts(9, 40, 512)
    ran: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, given, __: ran.append(given[0].numel()))
    with evaluating(model), torch.inference_mode():
        rows = FlatRows(model, model.config, asked)
        rows.advance(torch.tensor([5] * 9))
    hook.remove()
    tails = [len(prompt.tokens) - 40 for prompt in asked]
    assert ran == [40, sum(tails), 9]
    config = model.config
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert rows._lines.num_bytes() == a_token * (40 + 9 * 32 * -(-(max(tails) + 1) // 32))


def test_rows_behind_different_beginnings_run_together(llama: PreTrainedModel) -> None:
    model = llama
    (first, *_), (second, *_), (third, *_) = (prompts(1, shared, 512) for shared in (30, 17, 0))
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        wanted = [model(torch.tensor([[*one.tokens, 9]])).logits[0, -1] for one in (first, second, third)]
    model.set_attn_implementation("sdpa")
    kept = Lines(model.config)
    with evaluating(model), torch.inference_mode():
        beginnings = []
        for prompt, shared in ((first, 30), (second, 17)):
            line = kept.add()
            kept.run(model, [Step(line, prompt.tokens[:shared])])
            beginnings.append(kept.beginning(line))
            kept.drop(line)
        steps = [
            Step(kept.add(beginnings[0]), first.tokens[30:]), Step(kept.add(beginnings[1]), second.tokens[17:]),
            Step(kept.add(), third.tokens),
        ]  # fmt: skip
        kept.run(model, steps)
        found = kept.run(model, [Step(line, (9,)) for line in range(3)])
    torch.testing.assert_close(found, torch.stack(wanted), atol=1e-4, rtol=1e-4)


def test_long_prompts_run_in_pieces_of_bounded_size(llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = llama, prompts(9, 0, 512)
    wanted = alone(model, asked)
    monkeypatch.setattr(passes, "_LONGEST", 8)
    monkeypatch.setattr(passes, "_MOST_TOKENS", 24)
    monkeypatch.setattr(passes, "_PART_TOKENS", 10)
    ran: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, given, __: ran.append(given[0].numel()))
    assert answers(model, asked) == wanted
    hook.remove()
    assert max(ran) <= 24 and ran.count(8) > 3


def test_rows_that_leave_give_their_memory_back_and_the_others_go_on(llama: PreTrainedModel) -> None:
    model, asked = llama, prompts(6, 20, 512)
    with evaluating(model), torch.inference_mode():
        rows = FlatRows(model, model.config, asked)
        whole = rows._lines.num_bytes()
        rows.advance(torch.tensor([5, 6, 7, 8, 9, 10]))
        wanted = rows.logits_BV[[4, 1]]
        few = FlatRows(model, model.config, asked)
        few.keep([4, 1])
        assert few._lines.num_bytes() < whole / 2
        few.advance(torch.tensor([9, 6]))
    assert few.rows == [4, 1]
    torch.testing.assert_close(few.logits_BV, wanted, atol=1e-5, rtol=1e-5)


def test_a_model_has_its_own_attention_before_and_after_and_others_are_padded() -> None:
    model = tiny_llama()
    with evaluating(model):
        assert lies_flat(model)
    assert not lies_flat(model) and model.config._attn_implementation == "sdpa"
    assert not may_lie_flat(tiny_sliding())
    eager = tiny_llama()
    eager.set_attn_implementation("eager")
    assert not may_lie_flat(eager)
    unknown = tiny_llama()
    unknown.config.model_type = "strange"
    assert not may_lie_flat(unknown)


def test_what_it_does_not_compute_is_refused() -> None:
    module = torch.nn.Module()
    query = torch.randn(1, 4, 3, 8)
    lines = Lines(tiny_llama().config)
    told = lines._pass([Step(lines.add(), (5, 6, 7))])
    for options in ({"lines": None}, {"lines": told, "softcap": 30.0}, {"lines": told, "sliding_window": 8}):
        with pytest.raises(ModelError):
            line_attention._from_interface(module, query, query, query, None, **options)
