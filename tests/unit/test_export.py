"""Packages: what plain transformers and peft load is what was trained, and a tampered package is withheld."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_chat import CHATML, byte_tokenizer
from tiny_models import tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from luthier.core.errors import ProofFailed, RunFolderError, SettingsError
from luthier.core.types import Message
from luthier.data.render import Renderer
from luthier.models.card import CardFacts, card
from luthier.models.export import Package, export, merged
from luthier.models.parity import Measured, ParityReference, Sample, bound_for, capture, certify, failures, measure

TOKENIZER = byte_tokenizer(CHATML)
VERDICT = {
    "data": {"read": 100, "train": 80, "validation": 5, "test": 10, "dropped": {"too-long": 5}, "truncated": 0},
    "grader": "accuracy",
    "arms": {
        "zero_shot": {"score": 0.1, "interval": [0.05, 0.2], "metrics": {}, "tokens_in": 100, "tokens_out": 40},
        "tuned": {
            "score": 0.9,
            "interval": [0.85, 0.95],
            "metrics": {"macro_f1": 0.88},
            "tokens_in": 90,
            "tokens_out": 9,
        },
    },
    "because": "The tuned model answers 90 % of the test rows; its base 10 %.",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_llama(len(TOKENIZER), tied=True).save_pretrained(folder)
    return folder


def lora(base: Path, targets: str | list[str] = "all-linear", dtype: torch.dtype = torch.float32) -> PeftModel:
    """A model with an adapter that does something, as after training."""
    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=dtype),
        LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"),
        autocast_adapter_dtype=False,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    return model


def package(base: Path | None, kind: str, **options) -> Package:
    facts = CardFacts("tickets", str(base), kind, "lora", VERDICT, {"train.lr": 1e-4}, license="apache-2.0")
    stops = (TOKENIZER.convert_tokens_to_ids("<|im_end|>"),)
    return Package(kind, str(base) if base else None, card(facts), stops, max_new_tokens=12, **options)


def samples() -> list[Sample]:
    renderer = Renderer(TOKENIZER, max_length=500)
    asked = [[Message("user", f"Weather in city {i}?")] for i in range(3)]
    return [Sample(renderer.request(messages), tuple(renderer.prompt(messages))) for messages in asked]


def reference(model: torch.nn.Module, base: Path, folder: Path) -> ParityReference:
    return capture(model, samples(), folder, str(base))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([samples()[0].tokens])).logits


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_a_package_is_certified_in_a_fresh_process(base: Path, tmp_path: Path, kind: str) -> None:
    model = lora(base)
    before = logits(model)
    export(model, TOKENIZER, tmp_path / "package", package(base, kind))
    assert torch.equal(logits(model), before)
    certificate = certify(
        tmp_path / "package", reference(model, base, tmp_path / "parity"), bound_for(kind, torch.float32)
    )
    assert certificate["tokens_equal"] is True
    assert certificate["differs_from_base"] is True
    assert certificate["top1_agreement"] == 1.0
    assert certificate["relative_logit_difference"] <= certificate["bound"]
    weights = "adapter_model.safetensors" if kind == "adapter" else "model.safetensors"
    assert {weights, "chat_template.jinja", "tokenizer.json", "generation_config.json", "README.md"} <= set(
        certificate["files"]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "parity"]


def zero_the_adapter(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}, file)


def swap_the_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(CHATML.replace("assistant\\n", "assistant "), encoding="utf-8")


@pytest.mark.parametrize(
    ("tamper", "word"),
    [(zero_the_adapter, "no effect"), (swap_the_template, "other tokens")],
)
def test_a_tampered_package_is_withheld(base: Path, tmp_path: Path, tamper: Callable[[Path], None], word: str) -> None:
    model = lora(base)
    export(model, TOKENIZER, tmp_path / "package", package(base, "adapter"))
    written = reference(model, base, tmp_path / "parity")
    assert failures(measure(tmp_path / "package", written), 1e-5) == []
    tamper(tmp_path / "package")
    assert any(word in failure for failure in failures(measure(tmp_path / "package", written), 1e-5))


def test_a_package_that_does_not_load_is_withheld(base: Path, tmp_path: Path) -> None:
    model = lora(base)
    export(model, TOKENIZER, tmp_path / "package", package(base, "adapter"))
    (tmp_path / "package" / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ProofFailed, match="cannot be loaded"):
        certify(tmp_path / "package", reference(model, base, tmp_path / "parity"), 1e-5)


def test_a_difference_that_is_no_number_fails() -> None:
    measured = Measured(True, float("nan"), float("nan"), 1.0, float("nan"))
    assert len(failures(measured, 1.0)) == 2


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_bfloat16_packages_stay_within_their_bound(base: Path, tmp_path: Path, kind: str) -> None:
    model = lora(base, dtype=torch.bfloat16)
    export(model, TOKENIZER, tmp_path / "package", package(base, kind))
    measured = measure(tmp_path / "package", reference(model, base, tmp_path / "parity"))
    assert failures(measured, bound_for(kind, torch.bfloat16)) == []


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "lm_head"], ["q_proj", "embed_tokens"]])
def test_merged_equals_adapter_also_where_head_and_embeddings_are_tied(base: Path, tmp_path: Path, targets) -> None:
    model = lora(base, targets).eval()
    export(model, TOKENIZER, tmp_path / "package", package(base, "merged"))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "package")
    wanted = logits(model)
    assert (logits(plain) - wanted).abs().max() <= bound_for("merged", torch.float32) * wanted.abs().max()
    assert plain.config.tie_word_embeddings is (targets == "all-linear")


def test_merging_rounds_once_to_the_type_of_the_base(base: Path) -> None:
    model = lora(base, dtype=torch.bfloat16)
    plain = merged(model)
    assert isinstance(plain, PreTrainedModel)
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.bfloat16}
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    exact = layer.base_layer.weight.float() + 2.0 * (
        layer.lora_B["default"].weight.float() @ layer.lora_A["default"].weight.float()
    )
    assert torch.equal(plain.model.layers[0].mlp.up_proj.weight, exact.to(torch.bfloat16))


def test_a_fully_trained_model_is_exported_merged_only(tmp_path: Path) -> None:
    model = tiny_llama(len(TOKENIZER), seed=5)
    with pytest.raises(SettingsError, match=r"export\.format"):
        export(model, TOKENIZER, tmp_path / "package", package(None, "adapter"))
    export(model, TOKENIZER, tmp_path / "package", package(None, "merged"))
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "package")), logits(model))
    measured = measure(tmp_path / "package", capture(model, samples(), tmp_path / "parity", None))
    assert measured.difference_from_base is None
    assert failures(measured, 1e-5) == []


def test_a_folder_that_is_no_package_is_not_overwritten_and_an_earlier_package_is(base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep", encoding="utf-8")
    model = lora(base)
    with pytest.raises(RunFolderError, match="overwritten"):
        export(model, TOKENIZER, tmp_path / "mine", package(base, "adapter"))
    assert (tmp_path / "mine" / "notes.txt").read_text(encoding="utf-8") == "keep"
    for kind in ("merged", "adapter"):
        export(model, TOKENIZER, tmp_path / "package", package(base, kind))
    assert not (tmp_path / "package" / "model.safetensors").exists()


@pytest.mark.parametrize(("temperature", "sampled"), [(0.0, False), (0.7, True)])
def test_decoding_settings_travel_with_the_package(
    base: Path, tmp_path: Path, temperature: float, sampled: bool
) -> None:
    export(lora(base), TOKENIZER, tmp_path / "package", replace(package(base, "adapter"), temperature=temperature))
    config = GenerationConfig.from_pretrained(tmp_path / "package")
    assert config.eos_token_id == [TOKENIZER.convert_tokens_to_ids("<|im_end|>")]
    assert config.max_new_tokens == 12
    assert config.do_sample is sampled
    adapter = json.loads((tmp_path / "package" / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["base_model_name_or_path"] == str(base)


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_the_lines_in_the_card_load_the_package(
    base: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    export(lora(base), TOKENIZER, tmp_path / "package", package(base, kind))
    text = (tmp_path / "package" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path / "package")
    exec(text.partition("```python\n")[2].partition("```")[0], {})
    assert "<|im_start|>assistant" in capsys.readouterr().out


def test_the_card_says_what_was_measured_in_the_hubs_form() -> None:
    facts = CardFacts("tickets", "org/base-1b", "adapter", "lora", VERDICT, {"train.lr": 1e-4}, license="apache-2.0")
    _, front, body = card(facts).split("---\n", 2)
    parsed = yaml.safe_load(front)
    assert parsed["base_model"] == "org/base-1b"
    assert parsed["library_name"] == "peft"
    assert parsed["model-index"][0]["results"][0]["metrics"] == [
        {"type": "accuracy", "name": "score", "value": 0.9, "args": {"interval_95": [0.85, 0.95]}},
        {"type": "macro_f1", "name": "macro_f1", "value": 0.88},
    ]
    assert "| tuned | 0.900 | 0.850 to 0.950 | 90 | 9 |" in body
    assert "| dropped | too-long: 5 |" in body


def test_the_hubs_own_reader_finds_the_figures_of_the_verdict_in_the_card() -> None:
    facts = CardFacts("tickets", "org/base-1b", "merged", "full", VERDICT | {"clusters": 7}, {}, license="mit")
    data = ModelCard(card(facts)).data
    assert isinstance(data, ModelCardData) and data.eval_results
    (score, macro) = data.eval_results
    tuned = VERDICT["arms"]["tuned"]
    assert (score.metric_type, score.metric_value) == ("accuracy", tuned["score"])
    assert (macro.metric_type, macro.metric_value) == ("macro_f1", tuned["metrics"]["macro_f1"])
    assert score.metric_args == {"interval_95": tuned["interval"]}
    assert (score.dataset_split, score.dataset_args) == ("test", {"rows": 10, "clusters": 7})
    assert (data.model_name, data.base_model, data.license) == ("tickets", "org/base-1b", "mit")
    again = ModelCard(f"---\n{data.to_yaml()}\n---\n").data
    assert again.eval_results == data.eval_results


def test_a_grader_with_settings_is_registered_by_its_name_alone() -> None:
    verdict = VERDICT | {"grader": "judge:url=http://inside/v1,model=large"}
    text = card(CardFacts("tickets", None, "merged", "full", verdict, {}))
    data = ModelCard(text).data
    assert data.eval_results and data.eval_results[0].metric_type == "judge"
    assert "inside" not in text and "judge:url=...,model=large" in text


def test_a_card_registers_nothing_where_the_verdict_refuses_the_test() -> None:
    refused = VERDICT | {
        "outcome": "refused",
        "because": "The test part is no test: 3 rows are among the training rows.",
    }
    text = card(CardFacts("tickets", "org/base-1b", "merged", "full", refused, {}))
    assert ModelCard(text).data.eval_results is None
    assert "0.900" not in text and "Nothing that can be claimed" in text and "3 rows are among" in text


def test_the_tokenizer_in_the_package_renders_as_in_training(base: Path, tmp_path: Path) -> None:
    export(lora(base), TOKENIZER, tmp_path / "package", package(base, "adapter"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "package")
    (first, *_) = samples()
    messages = first.request["messages"]
    assert tuple(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)) == first.tokens
