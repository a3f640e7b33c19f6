"""Bytes and operations of a training, before it runs."""

from dataclasses import dataclass

from luthier.core.errors import ModelError
from luthier.core.types import JsonObject

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_PROCESS_BYTES = 700 * 2**20


@dataclass(frozen=True)
class Shape:
    """The figures of a model that its memory and speed depend on."""

    num_weights: int
    hidden_size: int
    num_layers: int
    vocab_size: int
    inner_size: int


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
    embeddings = vocab * hidden * (1 if text.get("tie_word_embeddings", False) else 2)
    return Shape(embeddings + layers * (attention + 3 * hidden * inner * experts), hidden, layers, vocab, inner)


def training_bytes(shape: Shape, num_trained: int, dtype: str, micro_tokens: int, *, checkpointing: bool) -> int:
    """Estimate the memory that training takes, in bytes.

    Weights in `dtype`; for each trained weight a float32 master, two averages and a gradient
    (16 bytes); per token and layer about 14 hidden and 4 inner activations in `dtype` that the
    backward pass needs (Korthikanti et al. 2022, arXiv 2205.05198, without the attention scores,
    which are not kept), or with checkpointing one hidden state and all of one layer; logits of one chunk.
    """
    size = _BYTES[dtype]
    weights = shape.num_weights * size + num_trained * (16 + size)
    whole_layer = 14 * shape.hidden_size + 4 * shape.inner_size
    per_token = shape.num_layers * shape.hidden_size + whole_layer if checkpointing else shape.num_layers * whole_layer
    activations = micro_tokens * per_token * size
    head = 512 * shape.vocab_size * 12 + shape.vocab_size * shape.hidden_size * 4
    return _PROCESS_BYTES + weights + activations + head


def training_flops(shape: Shape, num_tokens: int) -> int:
    """Return the floating-point operations of training: 6 per weight and token (Kaplan et al. 2020, arXiv 2001.08361)."""
    return 6 * shape.num_weights * num_tokens


def _number(config: JsonObject, key: str, default: int | None = None) -> int:
    value = config.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if default is None:
        raise ModelError(f"the model's config.json has no {key}; Luthier needs it to plan memory.")
    return default
