"""Bytes of a training, before it runs. Its operations are counted in `flops.py`."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from luthier.core.errors import ModelError
from luthier.core.types import JsonObject
from luthier.kernels.head import LOGITS_IN_CACHE, chunk_size
from luthier.kernels.packed_linear import MOST_BYTES

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
# Bytes that the optimizer keeps for a trained weight: two averages in float32, or in a byte each with a scale for 256.
AVERAGES = {"adamw": 8.0, "adamw8bit": 2.0 + 8 / 256}
# What the heap of a CPU process holds beyond what lives: bytes, and layers of activations. Fitted to bench/memory.py
# (glibc 2.36, the starter); oneDNN, which multiplies bfloat16, asks for aligned scratch memory that glibc seldom reuses.
_HEAP = {"bfloat16": (290 * 2**20, 5.2), "float16": (290 * 2**20, 5.2), "float32": (0, 1.8)}
# Less where norms, gates and attention are computed in one call and leave nothing in between.
_HEAP_LESS = {"bfloat16": 100 * 2**20, "float16": 100 * 2**20, "float32": 0}
# It grows while steps of ever other lengths leave holes, in half precision by so much for every doubling of the steps before those that
# the bench takes (the starter's process grew so on SNIPS), and for every one behind them. The second is laid between the demo's run of 134 steps (the starter measured 0.91 of this forecast) and SNIPS's of 3,058 (1.05).
_EARLY_GROWTH, _GROWTH, _STEPS_FITTED, _STEPS_SEEN = 60 * 2**20, 40 * 2**20, 24, 4096


@dataclass(frozen=True)
class Shape:
    """The figures of a model that its memory and speed depend on.

    `kv_size` are the numbers that a layer's cache keeps of a token, `layer_weights` the weights of all layers that
    one token meets: of the experts of a layer only those that it is sent to.
    """

    num_weights: int
    hidden_size: int
    num_layers: int
    vocab_size: int
    inner_size: int
    num_heads: int = 1
    head_size: int = 0
    kv_size: int = 0
    layer_weights: int = 0


class Memory(NamedTuple):
    """The bytes that a training holds at its peak, by what they are for.

    `rest` is what a process holds without a model, and freed memory that its heap keeps.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    rest: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def shape_of(config: JsonObject) -> Shape:
    """Read a model's shape from its config; the number of weights is that of a gated-MLP transformer.

    Raises ModelError naming the field that is missing.
    """
    text = config.get("text_config", config)
    assert isinstance(text, dict)
    hidden, layers, vocab = (_number(text, key) for key in ("hidden_size", "num_hidden_layers", "vocab_size"))
    inner = _number(text, "intermediate_size", 4 * hidden)
    heads = _number(text, "num_attention_heads", 1)
    kv_heads = _number(text, "num_key_value_heads", heads)
    head_size = _number(text, "head_dim", hidden // heads)
    attention = 2 * hidden * heads * head_size + 2 * hidden * kv_heads * head_size
    experts = _number(text, "num_experts", _number(text, "num_local_experts", 1))
    met = min(experts, _number(text, "num_experts_per_tok", experts))
    embeddings = vocab * hidden * (1 if text.get("tie_word_embeddings", False) else 2)
    return Shape(
        embeddings + layers * (attention + 3 * hidden * inner * experts), hidden, layers, vocab, inner, heads, head_size,
        kv_size=2 * kv_heads * head_size, layer_weights=layers * (attention + 3 * hidden * inner * met),
    )  # fmt: skip


def training_memory(
    shape: Shape,
    num_trained: int,
    dtype: str,
    micro_tokens: int,
    *,
    checkpointing: bool,
    score_elements: int = 0,
    optimizer: str = "adamw",
    in_one_call: bool = False,
    gathered: bool = True,
) -> Memory:
    """Estimate the memory that training takes beside what the process holds without a model.

    Weights in `dtype`; for each trained weight the optimizer's averages and a gradient in float32, and where `dtype` is
    smaller a master and its gradient; what the backward pass needs of `micro_tokens` tokens; logits of one
    chunk and the gradient of the output layer. `score_elements` are the attention scores that one layer
    keeps for one head: the sum of the squared lengths of its rows, 0 where attention keeps none. `in_one_call`: norms,
    gates and attention are (`kernels/native_layers.py`, `kernels/native_attention.py`). `gathered`: gradients in float32
    of earlier micro-batches of the step are there; else they are made when the backward pass is over and nothing is kept for it.
    """
    size = BYTES[dtype]
    layer = micro_tokens * layer_bytes(shape, dtype, in_one_call=in_one_call) + score_elements * shape.num_heads * size
    states = micro_tokens * shape.hidden_size * size
    activations = layer + shape.num_layers * states if checkpointing else shape.num_layers * layer
    head = _head_bytes(shape, micro_tokens, size, trained=num_trained >= shape.num_weights // 2)
    gradients = num_trained * (4 + (size if size < 4 else 0))
    if not gathered:
        gradients = max(num_trained * size, num_trained * 4 - activations - head)
    return Memory(
        weights=shape.num_weights * size, gradients=gradients, optimizer=int(num_trained * (AVERAGES[optimizer] + (4 if size < 4 else 0))),
        activations=activations, head=head,
    )  # fmt: skip


def _head_bytes(shape: Shape, micro_tokens: int, size: int, *, trained: bool) -> int:
    """Return what one chunk of logits takes with the pieces that are gone over, and a trained output layer's gradient."""
    targets = min(micro_tokens, chunk_size(shape.vocab_size, trained=trained, on_gpu=False))
    logits = targets * shape.vocab_size * size + 3 * 4 * max(LOGITS_IN_CACHE, shape.vocab_size)
    return logits + (shape.vocab_size * shape.hidden_size * (4 + size) if trained else 0)


def training_bytes(
    shape: Shape, num_trained: int, dtype: str, micro_tokens: int, *, checkpointing: bool, score_elements: int = 0
) -> int:
    """Return the sum of `training_memory` with AdamW in float32."""
    return training_memory(
        shape, num_trained, dtype, micro_tokens, checkpointing=checkpointing, score_elements=score_elements
    ).total


def heap_bytes(shape: Shape, dtype: str, micro_tokens: int, steps: int, *, in_one_call: bool = False) -> int:
    """Estimate the freed memory that a process on a CPU still holds at its peak, in bytes, in so many steps."""
    fixed, layers = _HEAP[dtype]
    fixed -= _HEAP_LESS[dtype] if in_one_call else 0
    doublings = math.log2(min(steps, _STEPS_SEEN) / _STEPS_FITTED)
    grown = int((_GROWTH if doublings > 0 else _EARLY_GROWTH) * doublings) if BYTES[dtype] < 4 else 0
    return fixed + grown + int(layers * micro_tokens * layer_bytes(shape, dtype, in_one_call=in_one_call))


def lora_weights(shape: Shape, rank: int) -> int:
    """Return the weights that LoRA adds where it adapts every linear layer, all heads counted as query heads."""
    return shape.num_layers * rank * (8 * shape.hidden_size + 3 * (shape.hidden_size + shape.inner_size))


def layer_bytes(shape: Shape, dtype: str, *, in_one_call: bool = False) -> int:
    """Return what one layer keeps of one token for the backward pass, attention scores left out.

    In the terms of Korthikanti et al. 2022 (arXiv 2205.05198): the gate, both its products and the activation
    of the inner layer; queries, keys and values, the states before and behind each product and norm. A norm
    computes in float32, so of its two inputs float32 copies are kept. Norms, gates and attention that are computed `in_one_call` keep their inputs
    and what they give alone: no copies, and not the activation.
    """
    size = BYTES[dtype]
    if in_one_call:
        return (
            3 * shape.inner_size + 4 * shape.hidden_size + 2 * shape.num_heads * shape.head_size + shape.kv_size
        ) * size
    return (4 * shape.inner_size + 9 * shape.hidden_size) * size + 2 * shape.hidden_size * 4


def kv_bytes(shape: Shape, dtype: str, num_tokens: int) -> int:
    """Return what the cache of a model that writes answers holds for so many tokens, of all rows together."""
    return num_tokens * shape.num_layers * shape.kv_size * BYTES[dtype]


def packed_bytes(shape: Shape, dtype: str, *, on_cpu: bool) -> int:
    """Return what the packed copy of the linear layers takes, with which a small model writes answers on a CPU in bfloat16."""
    packed = (shape.layer_weights + shape.vocab_size * shape.hidden_size) * BYTES[dtype]
    return packed if on_cpu and dtype == "bfloat16" and packed <= MOST_BYTES else 0


def _number(config: JsonObject, key: str, default: int | None = None) -> int:
    value = config.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if default is None:
        raise ModelError(f"the model's config.json has no {key}; Luthier needs it to plan memory.")
    return default
