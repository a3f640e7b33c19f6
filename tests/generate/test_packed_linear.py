"""Packed weights give what plain ones give, stand in the model only while it decodes, and follow the weights."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_llama
from torch import nn

from luthier.core.types import Prompt
from luthier.generate.engine import Engine, evaluating
from luthier.kernels import packed_linear
from luthier.kernels.packed_linear import PackedLinear, Together, packed

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")


def linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 200])
@torch.inference_mode()
def test_a_packed_layer_computes_what_the_plain_one_computes(bias: bool, rows: int) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(48, 96, bias=bias).bfloat16()
    given = torch.randn(rows, 3, 48).bfloat16()
    ours = PackedLinear(plain)(given)
    assert ours.shape == (rows, 3, 96)
    torch.testing.assert_close(ours, plain(given), rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("biased", [(), (0,), (0, 1, 2)])
@torch.inference_mode()
def test_layers_that_read_the_same_input_are_computed_at_once(biased: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    plain = [nn.Linear(48, wide, bias=place in biased).bfloat16() for place, wide in enumerate((96, 32, 32))]
    together = Together(plain)
    layers = [PackedLinear(layer, together, place) for place, layer in enumerate(plain)]
    first, second = torch.randn(5, 48).bfloat16(), torch.randn(3, 48).bfloat16()
    with torch.profiler.profile() as seen:
        ours = [layer(first) for layer in layers]
    assert [event.name for event in seen.events()].count("mkldnn::_linear_pointwise") == 1
    for found, layer in zip(ours, plain, strict=True):
        torch.testing.assert_close(found, layer(first), rtol=2e-2, atol=1e-2)
    # What was computed for another input, or taken already, is never handed out.
    for place, given in ((0, first), (1, second), (2, first), (2, first), (0, second)):
        torch.testing.assert_close(layers[place](given), plain[place](given), rtol=2e-2, atol=1e-2)


@torch.inference_mode()
def test_a_model_multiplies_queries_keys_and_values_as_one_and_gates_with_what_they_gate() -> None:
    model = tiny_llama().bfloat16().eval()
    given = torch.arange(30, 50)[None]
    plain = model(given).logits
    with packed(model), torch.profiler.profile() as seen:
        found = model(given).logits
    products = [event.name for event in seen.events()].count("mkldnn::_linear_pointwise")
    assert products == 4 * model.config.num_hidden_layers + 1
    torch.testing.assert_close(found, plain, rtol=2e-2, atol=2e-2)


def test_a_model_decodes_with_packed_layers_and_has_its_own_before_and_after() -> None:
    model = tiny_llama().bfloat16()
    before = linears(model)
    with evaluating(model):
        assert {type(layer) for layer in linears(model)} == {PackedLinear}
        assert [layer.weight for layer in linears(model)] == [layer.weight for layer in before]
    assert linears(model) == before and {type(layer) for layer in before} == {nn.Linear}


def test_answers_follow_weights_that_were_changed_meanwhile() -> None:
    model, asked = tiny_llama().bfloat16(), [Prompt("a", tuple(range(30, 50)))]
    engine = Engine(model, (), 0, unrender=str, max_new_tokens=8)
    first = engine(asked)[0].tokens
    with torch.no_grad():
        for layer in linears(model):
            layer.weight.normal_()
    second = engine(asked)[0].tokens
    assert first != second and Engine(model, (), 0, unrender=str, max_new_tokens=8)(asked)[0].tokens == second


def test_layers_below_an_adapter_are_packed_too() -> None:
    torch.manual_seed(0)
    model = get_peft_model(
        tiny_llama().bfloat16(), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    )
    given = torch.arange(30, 50)[None]
    with torch.inference_mode():
        plain = model.eval()(given).logits
        with packed(model):
            assert type(model.get_submodule("base_model.model.model.layers.0.mlp.up_proj.base_layer")) is PackedLinear
            torch.testing.assert_close(model(given).logits, plain, rtol=5e-2, atol=5e-2)


def test_float32_and_large_models_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packed_linear.pack(tiny_llama()) == []
    monkeypatch.setattr(packed_linear, "MOST_BYTES", 1000)
    model = tiny_llama().bfloat16()
    assert packed_linear.pack(model) == [] and {type(layer) for layer in linears(model)} == {nn.Linear}
