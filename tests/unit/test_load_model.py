"""Models from a folder or from random weights: what is loaded is what lies there, and unsafe folders are refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_chat import CHATML, byte_tokenizer
from tiny_families import FAMILIES, tiny
from tiny_training import tiny_model
from transformers import LlamaForCausalLM

from luthier.config.settings import LlamaInit, ModelSettings
from luthier.core.errors import ModelError
from luthier.models.load import context_length, find_model, load_model, load_tokenizer, random_model, stop_tokens


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = byte_tokenizer(CHATML)
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def found(folder: Path):
    return find_model(ModelSettings(name=str(folder)))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_are_those_of_the_folder_in_the_type_asked_for(saved, dtype):
    model = load_model(found(saved), dtype)
    truth = tiny_model(vocab_size=model.config.vocab_size)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), truth.named_parameters(), strict=True):
        assert ours.dtype == dtype
        assert torch.equal(ours, theirs.to(dtype)), name


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_is_loaded_with_an_attention_that_gives_its_logits(family, tmp_path):
    """Not all have torch's own attention: capped scores and sinks are computed by transformers' eager one alone."""
    truth = tiny(family)
    truth.save_pretrained(tmp_path)
    model = load_model(found(tmp_path), torch.float32)
    assert model.config._attn_implementation == ("eager" if family in ("gemma2", "gpt_oss") else "sdpa")
    tokens = torch.arange(3, 43)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, truth(tokens).logits, rtol=1e-3, atol=1e-4)


def test_tokenizer_template_context_and_stop_tokens_come_along(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [3, 5]}')
    model = found(folder)
    assert load_tokenizer(model).chat_template == CHATML
    assert context_length(model) == 512
    assert stop_tokens(model) == (3, 5)
    (folder / "generation_config.json").unlink()
    assert stop_tokens(model) == ()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_that_needs_its_own_code_is_refused(folder, file):
    change(folder / file, auto_map={"AutoModelForCausalLM": "own.Model"})
    with pytest.raises(ModelError, match=f"{file} has auto_map"):
        found(folder)


def test_pickled_weights_are_never_loaded(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*never loaded"):
        found(folder)


def test_missing_weights_are_not_made_up(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(found(folder), torch.float32)


def test_weights_of_another_shape_are_refused(folder):
    change(folder / "config.json", intermediate_size=64)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(found(folder), torch.float32)


def test_damaged_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.safetensors is no safetensors file"):
        load_model(found(folder), torch.float32)


def test_an_unknown_architecture_is_refused(folder):
    change(folder / "config.json", model_type="nobody_knows")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(found(folder), torch.float32)


def test_what_is_no_model_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        find_model(ModelSettings(name=str(tmp_path)))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        find_model(ModelSettings(name=str(tmp_path)))
    with pytest.raises(ModelError, match=r"hub id \(owner/name\)"):
        find_model(ModelSettings(name="no-such-folder"))


def test_a_hub_model_that_cannot_be_reached_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="hf download nobody/nothing"):
        find_model(ModelSettings(name="nobody/nothing"))


def init(folder: Path, **shape: object) -> LlamaInit:
    return LlamaInit(tokenizer=str(folder), hidden_size=64, intermediate_size=128, num_hidden_layers=2, **shape)


def test_random_weights_depend_on_the_seed_alone(saved):
    folder = find_model(ModelSettings(init=init(saved)))
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(os.getpid())
    first = random_model(init(saved), tokenizer, 1, torch.float32)
    torch.manual_seed(os.getpid() + 1)
    again, other = (random_model(init(saved), tokenizer, seed, torch.float32) for seed in (1, 2))
    for ours, same, different in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, same)
        assert ours.dim() < 2 or not torch.equal(ours, different)


@pytest.mark.parametrize("tied", [True, False])
def test_random_weights_have_the_written_deviations_and_shape(saved, tied):
    shape = init(saved, tie_word_embeddings=tied, rope_theta=5000.0, max_position_embeddings=128)
    tokenizer = load_tokenizer(find_model(ModelSettings(init=shape)))
    model = random_model(shape, tokenizer, 0, torch.float32)
    layer = model.model.layers[0]
    assert float(layer.mlp.up_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(layer.mlp.down_proj.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert (layer.input_layernorm.weight == 1).all()
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.rope_parameters["rope_theta"] == 5000.0
    assert model.config.max_position_embeddings == 128


def test_random_weights_need_a_tokenizer(tmp_path):
    with pytest.raises(ModelError, match=r"model\.init\.tokenizer"):
        find_model(ModelSettings(init=init(tmp_path)))


def test_random_weights_in_bfloat16_keep_the_rotary_frequencies_of_a_loaded_model(saved, tmp_path):
    made = random_model(init(saved), load_tokenizer(find_model(ModelSettings(name=str(saved)))), 0, torch.bfloat16)
    made.save_pretrained(tmp_path / "made")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "made", dtype=torch.bfloat16)
    assert made.lm_head.weight.dtype == torch.bfloat16
    for (name, ours), (_, theirs) in zip(made.named_buffers(), loaded.named_buffers(), strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), name
