"""The measures of the starter: code lengths equal what a hand count gives, questions are posed and graded right."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from luthier.core.errors import DataError
from luthier.core.types import JsonObject
from luthier.starter import evaluate
from luthier.starter.rows import Pair

MODEL = Path(evaluate.__file__).parent / "model"
ROWS: list[JsonObject] = [
    {"text": "It was a bright cold day in April."},
    {"messages": [{"role": "user", "content": "Où?"}, {"role": "assistant", "content": "Here."}]},
    {"text": "Long ago, far away. " * 400},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
    )
    return LlamaForCausalLM(config).eval()


def test_bytes_are_those_of_the_texts_alone() -> None:
    assert evaluate.num_bytes(ROWS[:2]) == len("It was a bright cold day in April.") + len("Où?".encode()) + len(
        "Here."
    )


def test_the_code_length_is_the_sum_over_rows_scored_one_by_one(model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    short = [*ROWS[:2], {"text": "Another row of some length, so that batches are padded."}]
    expected = 0.0
    for tokens_L in evaluate.sequences(tokenizer, short):
        ids = torch.tensor(tokens_L[None], dtype=torch.long)
        with torch.no_grad():
            logp = model(ids).logits[0, :-1].log_softmax(-1)
        expected -= float(logp[torch.arange(len(tokens_L) - 1), ids[0, 1:]].sum()) / np.log(2)
    found = evaluate.model_code_length(model, tokenizer, short)
    assert found.bits == pytest.approx(expected, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(found.bits / evaluate.num_bytes(short))


def test_every_token_of_a_long_row_but_the_first_is_predicted_once(
    model: LlamaForCausalLM, tokenizer: Tokenizer
) -> None:
    length = len(next(evaluate.sequences(tokenizer, ROWS[2:])))
    assert length > 2048
    found = evaluate.model_code_length(model, tokenizer, ROWS[2:])
    assert found.num_tokens == length - 1
    uniform = (length - 1) * np.log2(8192)  # an untrained model is close to a uniform one
    assert found.bits == pytest.approx(uniform, rel=0.02)


def test_the_ngram_yardstick_predicts_what_it_has_seen(tokenizer: Tokenizer) -> None:
    train: list[JsonObject] = [{"text": f"The {word} sat on the mat."} for word in ("cat", "dog", "owl", "fox") * 5]
    seen = evaluate.ngram_code_length(tokenizer, train, [{"text": "The dog sat on the mat."}])
    strange = evaluate.ngram_code_length(tokenizer, train, [{"text": "A quite different text!"}])
    assert seen.bits_per_byte < 0.5 < strange.bits_per_byte
    assert seen.num_tokens == len(next(evaluate.sequences(tokenizer, [{"text": "The dog sat on the mat."}]))) - 1


def test_skills_are_asked_without_the_answer_and_graded_to_the_letter(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": word}]} for word in "abcd"
    ]
    for name in ("copy", "other"):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    asked: list[list[JsonObject]] = []

    def answer(conversations: Sequence[list[JsonObject]]) -> list[str]:
        asked.extend(conversations)
        words = [str(messages[-1]["content"]) for messages in conversations]
        return [f" {word}\n" if word != "d" else "D" for word in words]

    found = evaluate.skill_accuracies(tmp_path, answer)
    assert {name: (item.right, item.asked) for name, item in found.items()} == {"copy": (3, 4), "other": (3, 4)}
    assert found["copy"].share == 0.75
    assert all(messages == [{"role": "user", "content": messages[0]["content"]}] for messages in asked)


def test_few_shot_prompts_show_every_label_and_never_the_asked_text() -> None:
    train = [Pair(f"text {label} {number}", f"label_{label}") for label in range(9) for number in range(6)]
    test = [Pair(f"unseen {label}", f"label_{label}") for label in range(9)]
    prompts = evaluate.few_shot_labels(train, test, num_labels=5, shots=2, count=9, seed=4)
    assert prompts == evaluate.few_shot_labels(train, test, num_labels=5, shots=2, count=9, seed=4)
    assert sorted(wanted for _, wanted in prompts) == sorted(pair.answer for pair in test)
    for messages, wanted in prompts:
        shown = [message["content"] for message in messages if message["role"] == "assistant"]
        assert len(shown) == 10 and len(set(shown)) == 5 and wanted in shown
        assert all(label in str(messages[0]["content"]) for label in shown)
        assert str(messages[-1]["content"]).startswith("unseen")
    right = evaluate.accuracy(
        prompts, lambda asked: ["label_" + str(messages[-1]["content"]).split()[1] for messages in asked]
    )
    assert right.share == 1.0


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="no rows"):
        evaluate.rows_of(tmp_path / "none.jsonl")
