"""Search by meaning with the real sentence-transformers, where it is installed: a tiny random model from a folder."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from luthier.verdict.retrieval import Index, sentence_vectors

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog", "hound", "engine", "the", "a"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path)
    return str(tmp_path)


def test_texts_become_unit_vectors_and_the_same_text_is_found_first(model: str):
    embed = sentence_vectors(model)
    vectors_ND = embed(["the cat", "a dog", "an engine"])
    assert vectors_ND.shape == (3, 16) and np.linalg.norm(vectors_ND, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    passages = ["the cat", "a dog", "engine"]
    assert Index(passages, embed).search("a dog")[0] == 1
    assert len(Index(passages, embed).search("hound")) == 3, "words share nothing, and meaning still ranks"
