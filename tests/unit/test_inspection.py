"""Folders of weights that came from anywhere: what is no plain model is refused before any of it is loaded."""

import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_chat import CHATML, byte_tokenizer
from tiny_training import tiny_model
from transformers import LlamaConfig, LlamaForCausalLM

from luthier.config.settings import ModelSettings
from luthier.core.errors import ModelError
from luthier.generate.adapters import Adapters
from luthier.models.inspection import check_adapter, check_model, header, read_json
from luthier.models.load import find_model, load_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = byte_tokenizer(CHATML)
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    model = load_model(find_model(ModelSettings(name=str(saved))), torch.float32)
    get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def adapter(tuned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tuned, tmp_path / "adapter"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(find_model(ModelSettings(name=str(folder))), torch.float32)


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


PICKLED = [
    "pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "training_args.bin", "optimizer.pt", "rng_state.pth",
    "model.safetensors", "model-00001-of-00001.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", PICKLED)
def test_no_pickle_is_opened_whatever_it_is_called(folder: Path, tmp_path: Path, name: str, zipped: bool, beside: bool):
    fired = tmp_path / "fired"
    if not beside:
        (folder / "model.safetensors").unlink()
    if zipped:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Canary(fired)))
    else:
        (folder / name).write_bytes(pickle.dumps(Canary(fired)))
    if beside and name != "model.safetensors":  # what lies beside the weights is never opened
        load_model(find_model(ModelSettings(name=str(folder))), torch.float32)
    else:
        refused(folder, "no safetensors")
    assert not fired.exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "adapter_model.safetensors"])
def test_no_pickled_adapter_is_opened(saved: Path, adapter: Path, tmp_path: Path, name: str):
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / name).write_bytes(pickle.dumps(Canary(tmp_path / "fired")))
    adapters = Adapters(load_model(find_model(ModelSettings(name=str(saved))), torch.float32), 1 << 20)
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors"):
        adapters.load("pickled", adapter)
    assert not (tmp_path / "fired").exists()


def written(path: Path, entries: object, data: bytes = b"", length: int | None = None) -> Path:
    """A file with this header, in JSON or as it stands."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensor(start: int, end: int, dtype: str = "F32", shape: object = (2,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("entries", "size", "length", "words"),
    [
        ({}, 0, 1 << 62, "no safetensors file"), ({}, 0, (1 << 64) - 1, "no safetensors file"), ({}, 0, 3, "no safetensors file"),
        (b" " * 1000, 0, 100 << 20, "no safetensors file"), (b"\xff{}", 0, None, "not valid JSON"), (b"[" * 50_000, 0, None, "not valid JSON"),
        (b"[]", 0, None, "expected an object"), (b'{"a": ' + b"9" * 10_000 + b"}", 0, None, "not valid JSON"),
        (b'{"a":' + json.dumps(tensor(0, 8)).encode() + b',"a":' + json.dumps(tensor(0, 8)).encode() + b"}", 8, None, "there twice"),
        ({"a": tensor(0, 8), "b": tensor(4, 12)}, 12, None, "overlaps"), ({"a": tensor(0, 8), "b": tensor(16, 24)}, 24, None, "a hole"),
        ({"a": tensor(0, 8)}, 9, None, "8 bytes, but 9 are there"), ({"a": tensor(0, 8)}, 7, None, "8 bytes, but 7 are there"),
        ({"a": tensor(8, 0)}, 8, None, "no shape of its bytes"), ({"a": tensor(-8, 0)}, 8, None, "no shape of its bytes"),
        ({"a": tensor(0, 8, shape=[1 << 62, 4])}, 8, None, "no shape of its bytes"), ({"a": tensor(0, 8, shape=[-2])}, 8, None, "no shape of its bytes"),
        ({"a": tensor(0, 8, shape=[2.0])}, 8, None, "no shape of its bytes"), ({"a": tensor(0, 8, dtype="F31")}, 8, None, "no shape of its bytes"),
        ({"a": tensor(0, 8, dtype="F64")}, 8, None, "no shape of its bytes"), ({"a": [1, 2]}, 8, None, "no shape of its bytes"),
        ({"__metadata__": {"a": 1}}, 0, None, "__metadata__"), ({"a": {"dtype": "F32"}}, 0, None, "no shape of its bytes"),
    ],
)  # fmt: skip
def test_a_header_must_account_for_every_byte_once(
    tmp_path: Path, entries: object, size: int, length: int | None, words: str
):
    with pytest.raises(ModelError, match=words):
        header(written(tmp_path / "model.safetensors", entries, b"\0" * size, length))


def test_a_sound_header_is_read_as_the_library_reads_it(saved: Path):
    with safe_open(saved / "model.safetensors", "pt") as truth:
        shapes = {name: tuple(truth.get_slice(name).get_shape()) for name in truth.keys()}  # noqa: SIM118
    assert dict(header(saved / "model.safetensors")) == shapes


def mutations(path: Path, count: int, seed: int) -> None:
    """Spoil a file's header at random: what is still taken must be what the library takes, too."""
    rng, whole = random.Random(seed), path.read_bytes()
    length = int.from_bytes(whole[:8], "little") + 8
    for _ in range(count):
        spoiled = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            spoiled[rng.randrange(length)] = rng.choice((rng.randrange(256), *b'{}[],:"0123456789'))
        path.write_bytes(spoiled)
        try:
            header(path)
        except ModelError:
            continue
        with safe_open(path, "pt"):
            pass


def test_spoiled_headers_are_refused_or_sound(tmp_path: Path):
    save_file({"a": torch.zeros(3, 2), "b": torch.ones(5)}, tmp_path / "model.safetensors", {"format": "pt"})
    mutations(tmp_path / "model.safetensors", 300, seed=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(folder: Path, value: float):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    refused(folder, r"layers\.1\.mlp\.up_proj\.weight .* no finite number")


CODE = {"AutoModelForCausalLM": "own.Model"}


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("config.json", {"auto_map": CODE}, "config.json has auto_map"), ("tokenizer_config.json", {"auto_map": CODE}, "tokenizer_config.json has auto_map"),
        ("config.json", {"text_config": {"auto_map": CODE}}, r"has text_config\.auto_map"), ("config.json", {"a": [{"auto_map": CODE}]}, r"a\.auto_map"),
        ("config.json", {"vision_config": {"trust_remote_code": True}}, "trust_remote_code"), ("config.json", {"custom_generate": "own"}, "custom_generate"),
        ("config.json", {"_attn_implementation_internal": "own/kernel"}, "chooses an implementation"),
        ("config.json", {"_experts_implementation_internal": "own/kernel"}, "chooses an implementation"),
        ("config.json", {"text_config": {"_attn_implementation": "own/kernel"}}, "chooses an implementation"),
        ("config.json", {"quantization_config": {"quant_method": "own"}}, "quantized weights"),
        ("config.json", {"vocab_size": 10**9}, "vocab_size is"), ("config.json", {"vocab_size": -1}, "vocab_size is"), ("config.json", {"vocab_size": 4_000_000}, "vocab_size x hidden"),
        ("config.json", {"hidden_size": 10**9}, "hidden_size is"), ("config.json", {"hidden_size": 100_000}, "x hidden_size"), ("config.json", {"hidden_size": "64"}, "a whole number"),
        ("config.json", {"hidden_size": True}, "a whole number"), ("config.json", {"intermediate_size": 1_000_000}, "intermediate_size x"),
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers is"), ("config.json", {"num_hidden_layers": 4000}, "tensors there are"), ("config.json", {"num_hidden_layers": 0}, "num_hidden_layers"),
        ("config.json", {"num_attention_heads": 0}, "num_attention_heads"), ("config.json", {"head_dim": 10**9}, "head_dim"), ("config.json", {"text_config": [1]}, "text_config"),
        ("config.json", {"max_position_embeddings": 10**12}, "max_position"), ("config.json", {"model_type": "nobody_knows"}, "cannot be"),
        ("tokenizer_config.json", {"tokenizer_class": "own.Tokenizer"}, "tokenizer_class"), ("tokenizer_config.json", {"tokenizer_class": ["os", "system"]}, "tokenizer_class"),
        ("tokenizer_config.json", {"vocab_file": "../../../etc/passwd"}, "vocab_file"), ("tokenizer_config.json", {"tokenizer_file": "/etc/passwd"}, "tokenizer_file"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../../other.safetensors"}}, "weight_map"), ("model.safetensors.index.json", {"weight_map": {"a": "pytorch_model.bin"}}, "weight_map"),
        ("model.safetensors.index.json", {"weight_map": ["a"]}, "weight_map"), ("generation_config.json", {"custom_generate": "own/repo"}, "custom_generate"),
    ],
)  # fmt: skip
def test_a_config_that_asks_for_code_or_for_more_than_there_is_is_refused(
    folder: Path, file: str, values: dict, words: str
):
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    change(folder / file, **values)
    refused(folder, words)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a": 1, "a": 2}', '{"a": ' + "[" * 100_000, '{"a":' * 40 + "1" + "}" * 40]
)
def test_a_config_that_is_none_is_refused(folder: Path, text: str):
    (folder / "config.json").write_text(text)
    refused(folder, "not valid JSON|expected an object|deeper")


def test_a_config_of_many_megabytes_is_not_read(folder: Path):
    (folder / "config.json").write_text('{"a": "' + "x" * (9 << 20) + '"}')
    refused(folder, "at most")


def test_a_models_own_leftovers_are_no_fault(folder: Path):
    change(folder / "config.json", _attn_implementation_autoset=True, auto_map={}, quantization_config=None)
    change(folder / "tokenizer_config.json", tokenizer_file=None, special_tokens_map_file="/elsewhere/special.json")
    check_model(folder, read_json(folder / "config.json"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"r": 10**9}, "r is"), ({"r": -1}, "r is"), ({"r": "4"}, "r is"), ({"r": True}, "r is"), ({"r": 8}, "rank 8"), ({"peft_type": "IA3"}, "LORA"),
        ({"target_modules": "(a+)+$"}, "target_modules"), ({"target_modules": ["(a+)+$"]}, "target_modules"), ({"exclude_modules": ".*(x+)+"}, "exclude_modules"),
        ({"rank_pattern": {".*": 10**9}}, "rank_pattern"), ({"alpha_pattern": {"(a+)+": 1}}, "alpha_pattern"), ({"layers_pattern": "(a+)+$"}, "layers_pattern"),
        ({"modules_to_save": ["embed_tokens", "lm_head", "norm"]}, "modules_to_save"), ({"auto_mapping": {"parent_library": "os"}}, "auto_mapping"),
        ({"auto_map": CODE}, "auto_map"), ({"use_dora": True}, "use_dora"), ({"target_parameters": ["x"]}, "target_parameters"), ({"trainable_token_indices": [1]}, "trainable"),
        ({"layer_replication": [[0, 10**6]]}, "layer_replication"),
    ],
)  # fmt: skip
def test_an_adapter_that_is_more_than_low_ranks_is_refused(saved: Path, adapter: Path, values: dict, words: str):
    change(adapter / "adapter_config.json", **values)
    with pytest.raises(ModelError, match=words):
        check_adapter(adapter)


def test_an_adapter_of_another_base_is_refused_and_a_right_one_is_taken(saved: Path, adapter: Path, tmp_path: Path):
    adapters = Adapters(load_model(find_model(ModelSettings(name=str(saved))), torch.float32), 1 << 20)
    other = LlamaForCausalLM(
        LlamaConfig(vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    )
    get_peft_model(other, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="cannot be loaded over this base"):
        adapters.load("other", tmp_path / "other")
    adapters.load("right", adapter)
    assert isinstance(adapters.model, PeftModel) and adapters.names == ("right",)
