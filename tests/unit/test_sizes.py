"""Bytes and operations: the counts are those of the real models, the estimate stays near what training takes."""

from dataclasses import replace

import pytest
import torch
from tiny_training import policy_of, random_store, resolved, tiny_model
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from luthier.core.errors import ModelError
from luthier.data.loader import Batch, packed
from luthier.kernels import native, packed_linear
from luthier.models.flops import training_flops
from luthier.models.sizes import Shape, heap_bytes, packed_bytes, shape_of, training_bytes, training_memory

SMALL = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


def matrices(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.dim() >= 2)


@pytest.mark.parametrize(
    "model",
    [
        LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True)),
        LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=False)),
        Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=32, tie_word_embeddings=True)),
    ],
    ids=["tied", "untied", "own head size"],
)
def test_the_number_of_weights_is_the_models(model):
    assert shape_of(model.config.to_dict()).num_weights == matrices(model)


def test_every_expert_is_counted():
    model = MixtralForCausalLM(MixtralConfig(**SMALL, num_local_experts=4))
    assert shape_of(model.config.to_dict()).num_weights == pytest.approx(matrices(model), rel=0.02)


def test_the_text_part_of_a_larger_config_is_read():
    assert shape_of({"text_config": dict(SMALL)}).num_layers == 3


def test_a_missing_field_is_named():
    with pytest.raises(ModelError, match="vocab_size"):
        shape_of({"hidden_size": 64, "num_hidden_layers": 2})


def kept_bytes(layers: int, *, checkpointing: bool) -> tuple[int, Batch]:
    """What the backward pass keeps beside the weights."""
    model = tiny_model(layers=layers).train()
    policy, batch = (
        policy_of(model, resolved(gradient_checkpointing=checkpointing)),
        packed(random_store(20), range(20)),
    )
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.weighted_nll(batch)
    return sum(storage.nbytes() for storage in kept.values()), batch


@pytest.mark.parametrize("in_one_call", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_a_layer_keeps_is_near_the_estimate(
    in_one_call: bool, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured from models of two depths, so that what stands outside of the layers does not count."""
    if not in_one_call:
        monkeypatch.setattr(native, "_found", lambda: (None, "none is wanted"))
    elif native.library() is None:
        pytest.skip(native.why_not())
    (few, batch), (many, _) = (kept_bytes(layers, checkpointing=checkpointing) for layers in (2, 6))
    scores = 0 if in_one_call else sum(place * place for place in batch.places)
    shallow, deep = (
        training_memory(
            shape_of(tiny_model(layers=layers).config.to_dict()), 0, "float32", batch.tokens_BL.size, checkpointing=checkpointing,
            score_elements=scores, in_one_call=in_one_call,
        ).activations
        for layers in (2, 6)
    )  # fmt: skip
    assert many - few == pytest.approx(deep - shallow, rel=0.02 if in_one_call or checkpointing else 0.1)


def test_the_estimate_grows_with_what_is_trained_and_shrinks_with_checkpointing():
    shape = Shape(num_weights=10**9, hidden_size=2048, num_layers=20, vocab_size=32_000, inner_size=8192)
    full = training_bytes(shape, 10**9, "float32", 4096, checkpointing=False)
    assert full > training_bytes(shape, 10**7, "float32", 4096, checkpointing=False) + 11 * 10**9
    assert full > training_bytes(shape, 10**9, "bfloat16", 4096, checkpointing=False)
    assert full > training_bytes(shape, 10**9, "float32", 4096, checkpointing=True)
    assert full > training_bytes(shape, 10**9, "float32", 1024, checkpointing=False)


@pytest.mark.parametrize(("tokens", "gradients"), [(10, 4), (10**6, 2)])
def test_a_step_of_one_micro_batch_makes_its_float32_gradients_when_activations_are_gone(tokens: int, gradients: int):
    shape = shape_of(LlamaConfig(**SMALL, tie_word_embeddings=True).to_dict())
    num = 10**8
    alone, behind_another = (
        training_memory(shape, num, "bfloat16", tokens, checkpointing=False, gathered=gathered)
        for gathered in (False, True)
    )
    assert behind_another.gradients == 6 * num
    kept = alone.activations + alone.head
    assert alone.gradients == (2 * num if gradients == 2 else 4 * num - kept)
    assert alone._replace(gradients=0) == behind_another._replace(gradients=0)
    in_float32 = (
        training_memory(shape, num, "float32", tokens, checkpointing=False, gathered=g) for g in (False, True)
    )
    assert {memory.gradients for memory in in_float32} == {4 * num}


def test_a_long_training_leaves_more_freed_memory_than_a_short_one_and_not_without_end():
    shape = shape_of(LlamaConfig(**SMALL, tie_word_embeddings=True).to_dict())
    some = (3, 24, 134, 3058, 10**6)
    first, short, demo, snips, months = (heap_bytes(shape, "bfloat16", 2000, steps) >> 20 for steps in some)
    assert short - first == pytest.approx(180, abs=2)
    assert (
        demo - short == pytest.approx(99, abs=2) and snips - short == pytest.approx(280, abs=2) and months < snips + 40
    )
    in_one_call = [heap_bytes(shape, dtype, 0, 24, in_one_call=True) for dtype in ("bfloat16", "float32")]
    assert in_one_call == [heap_bytes(shape, "bfloat16", 0, 24) - 100 * 2**20, heap_bytes(shape, "float32", 0, 24)]
    assert heap_bytes(shape, "float32", 2000, 3) == heap_bytes(shape, "float32", 2000, 3058)


def test_the_packed_copy_of_the_linear_layers_is_counted():
    model = LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True)).bfloat16()
    shape = shape_of(model.config.to_dict())
    weights = [layer.weight.nbytes for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert packed_bytes(shape, "bfloat16", on_cpu=True) == sum(weights)
    assert packed_bytes(shape, "float32", on_cpu=True) == packed_bytes(shape, "bfloat16", on_cpu=False) == 0
    large = replace(shape, vocab_size=packed_linear.MOST_BYTES // shape.hidden_size)
    assert packed_bytes(large, "bfloat16", on_cpu=True) == 0


def test_training_takes_six_operations_a_weight_and_token():
    shape = Shape(num_weights=7, hidden_size=1, num_layers=1, vocab_size=1, inner_size=1)
    assert training_flops(shape, 11) == 6 * 7 * 11
