"""The starter's tokenizer and chat template: what a word is cut into, what a turn looks like, what is trained."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from luthier.core.errors import DataError
from luthier.core.types import JsonObject
from luthier.starter import tokenizer as starter_tokenizer
from luthier.starter.evaluate import sequences
from luthier.starter.tokenizer import SPECIAL_TOKENS

MODEL = Path(starter_tokenizer.__file__).parent / "model"
SPACE = "\u0120"

CHAT: list[JsonObject] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Where is\nthe inn? "},
    {"role": "assistant", "content": "Over the hill."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "{\"a\": \"b\"}"},
]  # fmt: skip


@pytest.fixture(scope="module")
def chat() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text, add_special_tokens=False).tokens


@settings(max_examples=300, deadline=None)
@given(word=st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=14))
def test_a_word_behind_a_space_has_the_same_pieces_but_for_the_first(plain: Tokenizer, word: str) -> None:
    bare, spaced = _pieces(plain, word), _pieces(plain, f" {word}")
    assert spaced in ([SPACE, *bare], [SPACE + bare[0], *bare[1:]])


def test_ordinary_words_and_numbers_keep_their_pieces_and_most_need_no_extra_token(plain: Tokenizer) -> None:
    words = [
        "clem",
        "burke",
        "playlist",
        "Saturday",
        "morning",
        "harbor",
        "1945",
        "12",
        "7",
        "restaurant",
        "remind",
        "café",
        "naïve",
    ]
    for word in words:
        bare, spaced = _pieces(plain, word), _pieces(plain, f" {word}")
        assert spaced in ([SPACE, *bare], [SPACE + bare[0], *bare[1:]])
    common = ["the", "of", "and", "to", "you", "have", "what", "like", "people", "think", "movie", "good", "about"]
    assert all(len(_pieces(plain, f" {word}")) == 1 for word in common)


@pytest.mark.parametrize("mark", ['{"', '":', ' "', '",', '"}', '"}}', ' {"'])
def test_json_marks_are_single_tokens(plain: Tokenizer, mark: str) -> None:
    assert len(_pieces(plain, mark)) == 1


def test_the_special_tokens_come_first_and_make_a_round_trip(chat: PreTrainedTokenizerBase) -> None:
    assert len(chat) == starter_tokenizer.VOCAB_SIZE == 8192
    for number, token in enumerate(SPECIAL_TOKENS):
        assert chat.encode(token, add_special_tokens=False) == [number]
        assert chat.decode([number]) == token
    assert (chat.pad_token, chat.bos_token, chat.eos_token) == ("<|pad|>", "<|begin|>", "<|end|>")
    assert chat.model_max_length == 2048
    assert chat.encode("hi") == chat.encode("hi", add_special_tokens=False)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_every_text_comes_back(plain: Tokenizer, text: str) -> None:
    ids = plain.encode(text, add_special_tokens=False).ids
    assert plain.decode(ids, skip_special_tokens=False) == text


def test_the_file_is_a_stock_bpe_with_the_gpt2_split() -> None:
    state = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    assert state["model"]["type"] == "BPE"
    assert state["normalizer"] is None
    assert state["pre_tokenizer"] == {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    vocab = state["model"]["vocab"]
    assert sorted(vocab.values()) == list(range(8192))
    assert all(left + right in vocab for left, right in state["model"]["merges"])


def test_turns_cost_two_tokens_and_no_newline(chat: PreTrainedTokenizerBase) -> None:
    text = chat.apply_chat_template(CHAT[:3], tokenize=False)
    assert text == (
        "<|begin|><|system|>Be brief.<|end|><|user|>  Where is\nthe inn? <|end|><|assistant|>Over the hill.<|end|>"
    )
    asked = chat.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
    assert text.startswith(asked)
    assert asked.endswith("<|assistant|>")


def test_the_marks_cover_each_answer_and_its_end_and_nothing_else(chat: PreTrainedTokenizerBase) -> None:
    out = chat.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    pairs = list(zip(out["input_ids"], out["assistant_masks"]))
    marked = [
        [token for token, _ in run] for is_marked, run in itertools.groupby(pairs, lambda pair: pair[1]) if is_marked
    ]
    assert [chat.decode(tokens) for tokens in marked] == ["Over the hill.<|end|>", '{"a": "b"}<|end|>']


def test_history_is_never_rewritten(chat: PreTrainedTokenizerBase) -> None:
    thinking = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "hm"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    whole = chat.apply_chat_template(thinking, tokenize=False)
    assert "<|assistant|><|think|>hm<|/think|>b<|end|>" in whole
    assert all(whole.startswith(chat.apply_chat_template(thinking[:count], tokenize=False)) for count in range(1, 5))


def test_tools_and_their_calls_are_written_as_json(chat: PreTrainedTokenizerBase) -> None:
    tools: list[JsonObject] = [{"type": "function", "function": {"name": "find"}}]
    calls = [
        {"type": "function", "function": {"name": "find", "arguments": arguments}}
        for arguments in ({"q": 1}, '{"q": 2}')
    ]
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "found"},
    ]
    text = chat.apply_chat_template(messages, tools=tools, tokenize=False)
    assert text == (
        '<|begin|><|system|>S\nTools: [{"type": "function", "function": {"name": "find"}}]<|end|><|user|>go<|end|>'
        '<|assistant|><|tool_call|>{"name": "find", "arguments": {"q": 1}}<|/tool_call|>'
        '<|tool_call|>{"name": "find", "arguments": {"q": 2}}<|/tool_call|><|end|><|tool|>found<|end|>'
    )
    without_system = chat.apply_chat_template(messages[1:2], tools=tools, tokenize=False)
    assert without_system.startswith("<|begin|><|system|>Tools: [")


def test_an_unknown_role_is_refused(chat: PreTrainedTokenizerBase) -> None:
    with pytest.raises(Exception, match="the role of a message is"):
        chat.apply_chat_template([{"role": "robot", "content": "x"}], tokenize=False)


def test_rows_are_laid_out_as_the_template_does(chat: PreTrainedTokenizerBase, plain: Tokenizer) -> None:
    laid_out, document = sequences(plain, [{"messages": CHAT}, {"text": "Once upon a time"}])
    np.testing.assert_array_equal(laid_out, chat.apply_chat_template(CHAT, return_dict=True)["input_ids"])
    assert chat.decode(document) == "<|begin|>Once upon a time<|endoftext|>"


def test_training_fills_the_vocabulary_and_repeats(plain: Tokenizer) -> None:
    texts = _made_up_texts(random.Random(5), 20_000)
    first, second = starter_tokenizer.train(texts), starter_tokenizer.train(texts)
    assert first.get_vocab_size() == 8192
    assert first.to_str() == second.to_str()
    for word in {word for text in texts[:40] for word in text.split()}:
        bare, spaced = _pieces(first, word), _pieces(first, f" {word}")
        assert spaced in ([SPACE, *bare], [SPACE + bare[0], *bare[1:]])


def test_too_little_text_is_refused_with_the_size_reached() -> None:
    with pytest.raises(DataError, match="8,192"):
        starter_tokenizer.train(["a few words", "are not enough"])


def _made_up_texts(draw: random.Random, count: int) -> list[str]:
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(9000)]
    return [" ".join(draw.choices(words, k=draw.randint(3, 10))) for _ in range(count)]
