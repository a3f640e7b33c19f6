"""Low-rank layers: computed as PEFT computes them, with less made on the way, and written so that PEFT reads them."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tiny_families import tiny_seeing
from tiny_training import live_lora, random_store, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from luthier.config.settings import LoraSettings
from luthier.data.loader import padded
from luthier.kernels import reference
from luthier.kernels.adapted import adapted_linear
from luthier.models.adapters import AdaptedLinear, add_lora, beside_the_text, train_all
from luthier.train.policy import Policy

LORA = LoraSettings(rank=4, alpha=8)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 9), rank=st.integers(1, 4), seed=st.integers(0, 99), lead=st.sampled_from([(), (2,), (1, 3)])
)
def test_the_layer_and_its_gradients_are_those_of_the_definition(rows, rank, seed, lead):
    rng = torch.Generator().manual_seed(seed)
    shapes = [(*lead, rows, 6), (5, 6), (rank, 6), (5, rank)]
    inputs = [torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_() for shape in shapes]
    towards = torch.randn(*lead, rows, 5, generator=rng, dtype=torch.float64)
    found = {}
    for name, layer in (
        ("ours", lambda x, w, d, u: adapted_linear(x, w, None, d, u, 0.7)),
        ("truth", lambda x, w, d, u: reference.adapted_linear(x, w, d, u, 0.7)),
    ):
        for tensor in inputs:
            tensor.grad = None
        out = layer(*inputs)
        (out * towards).sum().backward()
        found[name] = [out.detach(), inputs[0].grad, inputs[2].grad, inputs[3].grad]
    for one, other in zip(found["ours"], found["truth"], strict=True):
        torch.testing.assert_close(one, other)


def loss_of(policy: Policy) -> torch.Tensor:
    """The loss of ten rows."""
    return policy.weighted_nll(padded(random_store(10), range(10)))


def plain_peft(model: torch.nn.Module) -> PeftModel:
    """The same adapter with PEFT's own layers."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    made = get_peft_model(model, config, autocast_adapter_dtype=False)  # type: ignore[arg-type]
    assert isinstance(made, PeftModel)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_those_of_pefts_own_layers(dtype):
    ours, theirs = add_lora(tiny_model(dtype=dtype), LORA, 0, "tiny", None), plain_peft(tiny_model(dtype=dtype))
    assert any(type(module) is AdaptedLinear for module in ours.modules())
    assert not any(isinstance(module, AdaptedLinear) for module in theirs.modules())
    live_lora(ours)
    theirs.load_state_dict(ours.state_dict())
    losses = {}
    for name, model in (("ours", ours), ("theirs", theirs)):
        policy = Policy(model)
        policy.stock.set_attn_implementation("eager")
        loss = loss_of(policy)
        loss.backward()
        losses[name] = loss.item()
    assert losses["ours"] == pytest.approx(losses["theirs"], rel=1e-6 if dtype == torch.float32 else 2e-3)
    bound = 1e-5 if dtype == torch.float32 else 0.05
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert set(gradients) == {name for name, p in ours.named_parameters() if p.grad is not None}
    for name, p in ours.named_parameters():
        if p.grad is not None:
            assert (p.grad - gradients[name]).norm() <= bound * gradients[name].norm(), name


def test_peft_reads_what_is_written_and_answers_the_same(tmp_path):
    ours = add_lora(tiny_model(), LORA, 0, "tiny", None)
    live_lora(ours)
    ours.save_pretrained(str(tmp_path), save_embedding_layers=False)
    assert "custom" not in json.dumps(json.loads((tmp_path / "adapter_config.json").read_text()))
    theirs = PeftModel.from_pretrained(tiny_model(), str(tmp_path))
    assert not any(isinstance(module, AdaptedLinear) for module in theirs.modules())
    tokens = torch.arange(30)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(input_ids=tokens).logits, theirs(input_ids=tokens).logits, rtol=1e-5, atol=1e-5)
        with ours.disable_adapter():
            torch.testing.assert_close(ours(input_ids=tokens).logits, tiny_model()(input_ids=tokens).logits)


def test_dropout_takes_pefts_own_way():
    model = add_lora(tiny_model(), LORA.model_copy(update={"dropout": 0.5}), 0, "tiny", None).train()
    live_lora(model)
    tokens = torch.arange(30)[None]
    first, second = (model(input_ids=tokens).logits for _ in range(2))
    assert not torch.equal(first, second)


class Seen(TorchDispatchMode):
    """Notes which tensors matrix products read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "mm" in str(func):
            self.read |= {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        return func(*args, **(kwargs or {}))


def test_below_the_first_trained_layer_nothing_is_computed_backward():
    lora = LORA.model_copy(update={"targets": ("layers.1.mlp.down_proj",)})
    policy = Policy(add_lora(tiny_model(), lora, 0, "tiny", None))
    live_lora(policy.model)
    loss = loss_of(policy)
    with Seen() as seen:
        loss.backward()
    layers = policy.decoder.layers  # type: ignore[union-attr]
    down = layers[1].mlp.down_proj
    assert down.lora_B["default"].weight.untyped_storage().data_ptr() in seen.read
    frozen = [
        p for name, p in policy.decoder.named_parameters() if not p.requires_grad and p.dim() == 2 and "layers" in name
    ]
    assert len(frozen) == 14
    assert not {p.untyped_storage().data_ptr() for p in frozen} & seen.read


def test_frozen_weights_get_no_gradient_and_none_is_multiplied_for_them():
    policy = Policy(add_lora(tiny_model(), LORA, 0, "tiny", None))
    live_lora(policy.model)
    loss = loss_of(policy)
    with Shapes() as shapes:
        loss.backward()
    assert all(p.grad is None for p in policy.model.parameters() if not p.requires_grad)
    gates = {tuple(p.shape) for name, p in policy.decoder.named_parameters() if "base_layer" in name and "mlp" in name}
    assert len(gates) == 2 and not gates & shapes.made


class Shapes(TorchDispatchMode):
    """Notes the shapes that matrix products make."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if "mm" in str(func):
            self.made.add(tuple(out.shape))
        return out


class Wide(TorchDispatchMode):
    """Keeps the tensors of one shape that operations make."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape: tuple[int, ...] = shape
        self.made: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.shape == self.shape:
            self.made[out.untyped_storage().data_ptr()] = out
        return out


def test_the_update_is_added_where_the_layers_output_lies():
    """PEFT makes the output, the update, the scaled update and their sum."""
    made = {}
    for name, model in (("ours", add_lora(tiny_model(), LORA, 0, "tiny", None)), ("theirs", plain_peft(tiny_model()))):
        layer = model.get_base_model().model.layers[0].mlp.gate_proj
        with Wide(3, 128) as wide:
            layer(torch.ones(3, 64))
        made[name] = len(wide.made)
    assert made == {"ours": 1, "theirs": 4}


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj",)])
def test_parts_that_see_are_never_trained(targets, tmp_path):
    """Text gives them no gradient: adapters there would be dead weight, which servers refuse."""
    seeing = tiny_seeing()
    assert beside_the_text(seeing) == ["model.vision_tower", "model.multi_modal_projector"]
    assert beside_the_text(tiny_model()) == []
    trained = [name for name, p in train_all(seeing).named_parameters() if p.requires_grad]
    assert trained and not any("vision" in name or "multi_modal" in name for name in trained)
    adapted = add_lora(seeing, LORA.model_copy(update={"targets": targets}), 0, "tiny", None)
    adapted.save_pretrained(str(tmp_path))
    written = list(load_file(tmp_path / "adapter_model.safetensors"))
    assert written and all("language_model" in name for name in written)
    read = PeftModel.from_pretrained(tiny_seeing(), str(tmp_path))
    assert {name for name, _ in read.named_parameters()} == {name for name, _ in adapted.named_parameters()}
