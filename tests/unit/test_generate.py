"""Decoding: what transformers' own generate gives row by row, whatever the batch."""

import random
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_chat import CHATML, byte_tokenizer, piece_tokenizer
from tiny_models import tiny_llama, tiny_sliding

from luthier.core.errors import DataError, RunFailed
from luthier.core.types import Conversation, Message, Prompt, Row
from luthier.data.render import Renderer
from luthier.generate.engine import Engine
from luthier.generate.sample import greedy, sampled
from luthier.generate.stream import stream

STOPS = tuple(range(1, 24))
PAD = 0


def prompts(count: int = 24, shared: int = 0, longest: int = 40) -> list[Prompt]:
    rng = random.Random(count + shared)
    head = [rng.randrange(24, 512) for _ in range(shared)]
    tails = [[rng.randrange(24, 512) for _ in range(rng.randint(1, longest))] for _ in range(count)]
    return [Prompt(f"row{i}", (*head, *tail)) for i, tail in enumerate(tails)]


def engine(model: torch.nn.Module, **options) -> Engine:
    settings = {"max_new_tokens": 24, "unrender": lambda tokens: " ".join(map(str, tokens)), **options}
    return Engine(model, STOPS, PAD, **settings)


def by_transformers(model: torch.nn.Module, prompt: Prompt, budget: int = 24) -> tuple[int, ...]:
    tokens = torch.tensor([prompt.tokens])
    out = model.generate(
        input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=budget, do_sample=False,
        eos_token_id=list(STOPS), pad_token_id=PAD,
    )  # fmt: skip
    return tuple(out[0, len(prompt.tokens) :].tolist())


@pytest.mark.parametrize("shared", [0, 30])
@pytest.mark.parametrize("make", [tiny_llama, tiny_sliding])
def test_greedy_answers_equal_those_of_transformers_row_by_row(make, shared: int) -> None:
    model, asked = make(), prompts(10, shared=shared)
    answers = engine(model, batch_size=5)(asked)
    assert [answer.row for answer in answers] == [prompt.row for prompt in asked]
    for prompt, answer in zip(asked, answers):
        assert answer.tokens == by_transformers(model, prompt)
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}


def test_finish_reason_says_whether_a_stop_token_or_the_budget_ended_the_answer() -> None:
    for answer in engine(tiny_llama())(prompts()):
        assert (answer.finish_reason == "stop") == (answer.tokens[-1] in STOPS)
        assert not set(answer.tokens[:-1]) & set(STOPS)
        assert answer.finish_reason == "stop" or len(answer.tokens) == 24


def test_a_sampled_answer_depends_on_seed_and_row_and_not_on_the_batch() -> None:
    model, asked = tiny_llama(), prompts(16)
    together = engine(model, temperature=1.0, top_p=0.9, seed=1)(asked)
    alone = [engine(model, temperature=1.0, top_p=0.9, seed=1, batch_size=1)([prompt])[0] for prompt in asked]
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]
    other = engine(model, temperature=1.0, top_p=0.9, seed=2)(asked)
    assert [answer.tokens for answer in other] != [answer.tokens for answer in together]


def test_a_narrow_top_p_is_greedy() -> None:
    model, asked = tiny_llama(), prompts(6)
    narrow = engine(model, temperature=1.0, top_p=1e-6)(asked)
    assert [answer.tokens for answer in narrow] == [answer.tokens for answer in engine(model)(asked)]


def test_sampling_follows_the_probabilities_within_top_p() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.05, 0.35]])).repeat(4000, 1)
    uniform = torch.arange(4000) / 4000
    shares = torch.bincount(sampled(logits, uniform, 1.0, 1.0), minlength=4) / 4000
    assert torch.allclose(shares, torch.tensor([0.1, 0.5, 0.05, 0.35]), atol=2e-3)
    cut = torch.bincount(sampled(logits, uniform, 1.0, 0.6), minlength=4) / 4000
    assert torch.allclose(cut, torch.tensor([0.0, 0.5 / 0.85, 0.0, 0.35 / 0.85]), atol=2e-3)


def test_logits_that_are_no_numbers_stop_the_run() -> None:
    with pytest.raises(RunFailed, match="finite"):
        greedy(torch.tensor([[0.0, float("nan")]]))


def test_batches_are_the_same_for_the_same_prompts_and_hold_each_once() -> None:
    asked, one = prompts(100), engine(tiny_llama(), batch_size=16)
    batches = one.batches(asked)
    assert batches == one.batches(asked)
    assert sorted(prompt.row for batch in batches for prompt in batch) == sorted(prompt.row for prompt in asked)
    assert max(map(len, batches)) == 16


def test_an_answer_ends_where_the_context_ends_and_a_prompt_that_fills_it_is_refused() -> None:
    model = tiny_llama()
    (answer,) = engine(model, max_new_tokens=1000)([Prompt("r", tuple([77] * 250))])
    assert len(answer.tokens) <= 6
    with pytest.raises(DataError, match="row r"):
        engine(model)([Prompt("r", tuple([77] * 256))])


def test_an_adapted_model_decodes_as_it_would_by_transformers() -> None:
    torch.manual_seed(1)
    model = get_peft_model(tiny_llama(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    plain = [answer.tokens for answer in engine(model)(prompts(4))]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    tuned = engine(model)(prompts(4))
    assert [answer.tokens for answer in tuned] != plain
    for prompt, answer in zip(prompts(4), tuned):
        assert answer.tokens == by_transformers(model, prompt)


def test_decoding_uses_no_name_that_transformers_is_about_to_drop() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        assert engine(tiny_llama())(prompts(2))


def test_the_training_mode_of_the_model_is_left_as_it_was() -> None:
    model = tiny_llama().train()
    engine(model)(prompts(2))
    assert model.training


def test_the_prompt_is_the_one_of_training_and_an_answer_reads_as_it_was_written() -> None:
    renderer = Renderer(byte_tokenizer(CHATML), max_length=500)
    question, answer = Message("user", "Weather in <s>Paris?"), Message("assistant", "Sunny, 日本.")
    (item,) = renderer.render(Row("r", "f", 1, 1, Conversation((question, answer))), "sft")
    start = int(item.weight_L.argmax())
    assert renderer.prompt([question]) == item.tokens_L[:start].tolist()
    assert renderer.unrender(item.tokens_L[start:].tolist()) == "Sunny, 日本."


@pytest.mark.parametrize("make", [byte_tokenizer, piece_tokenizer])
def test_streamed_pieces_are_whole_characters_and_add_up(make) -> None:
    tokenizer = make(CHATML)
    renderer = Renderer(tokenizer, max_length=500)
    text = " Öl für 日本語 🎻🎻 naïve\n\n  café"
    tokens = renderer._encoder.encode_after([text])[0]
    pieces = list(stream(tokens, renderer.decode))
    assert "".join(pieces) == renderer.decode(tokens) == text
    assert len(pieces) > 10
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_stream_gives_the_tokens_of_the_answer_without_the_stop_token() -> None:
    model, asked = tiny_llama(), prompts(6)
    for prompt, answer in zip(asked, engine(model)(asked)):
        whole = [token for token in answer.tokens if token not in STOPS]
        assert list(engine(model).stream(prompt)) == whole
