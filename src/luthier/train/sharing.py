"""Which models may share what their rows begin with, and how: a list of proven ones; every other is refused with its reason.

`tree` computes attention along the flattened tree (`kernels/tree_attention.py`), where nothing but
attention and position ids connects tokens. `cached_tree` runs what is shared into the model's own cache
(`kernels/branching.py`), where convolutions, recurrent states, sinks or capped scores do too. A model is on the
list when the gradients of every weight equal those of separate rows (tests/numerics/test_tree_families.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedConfig

from luthier.data.loader import Layout

PROVEN: dict[str, Layout] = {
    "gemma2": "cached_tree",
    "gemma3_text": "tree",
    "gemma4_text": "tree",
    "gpt_oss": "cached_tree",
    "granite": "tree",
    "granitemoehybrid": "cached_tree",
    "lfm2": "cached_tree",
    "llama": "tree",
    "ministral": "tree",
    "mistral": "tree",
    "olmo2": "tree",
    "olmo3": "tree",
    "phi3": "tree",
    "qwen2": "tree",
    "qwen3": "tree",
    "qwen3_5_text": "cached_tree",
    "qwen3_moe": "tree",
    "smollm3": "tree",
}
# What models of a type are called; docs/models.md is made from both tables.
CALLED = {
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3",
    "gemma4_text": "Gemma 4",
    "gpt_oss": "gpt-oss",
    "granite": "Granite 3",
    "granitemoehybrid": "Granite 4",
    "lfm2": "LFM2",
    "llama": "Llama, SmolLM2, and the starter",
    "ministral": "Ministral",
    "mistral": "Mistral",
    "olmo2": "OLMo 2",
    "olmo3": "OLMo 3",
    "phi3": "Phi-3, Phi-4",
    "qwen2": "Qwen2, Qwen2.5",
    "qwen3": "Qwen3",
    "qwen3_5_text": "Qwen3.5",
    "qwen3_moe": "Qwen3 with experts",
    "smollm3": "SmolLM3",
}
_LAYERS = {
    "tree": {"full_attention", "sliding_attention"},
    "cached_tree": {"full_attention", "sliding_attention", "conv", "linear_attention", "mamba", "attention"},
}


@dataclass(frozen=True)
class Sharing:
    """How a model may share prefixes, the fastest first; where it may not, `layouts` is empty and `reason` says why."""

    layouts: tuple[Layout, ...]
    reason: str = ""


def sharing(config: PreTrainedConfig, *, lora_dropout: float = 0.0, compiled: bool = False) -> Sharing:
    """Return how a model of this config may share what rows begin with."""
    text = config.get_text_config()
    layout = PROVEN.get(text.model_type)
    if layout is None:
        return Sharing((), f"{text.model_type} is not among the models for which it is proven ({', '.join(PROVEN)})")
    settings = text.to_dict()
    if noise := _noise(settings, lora_dropout):
        return Sharing((), f"{noise} would make shared tokens differ from row to row")
    if settings.get("use_bidirectional_attention") in (True, "all"):
        return Sharing((), "its tokens see those behind them, so what rows share is not the same in each")
    layers: Sequence[str] = settings.get("layer_types") or ()
    if strange := sorted(set(layers) - _LAYERS[layout]):
        return Sharing((), f"it has layers of type {', '.join(strange)}, for which it is not proven")
    if layout == "tree":
        return Sharing(("tree",) if compiled else ("tree", "cached_tree"))
    if compiled:
        return Sharing((), "train.compile makes layers for whole rows, not for the cache that it needs")
    return Sharing(("cached_tree",))


def _noise(settings: dict[str, object], lora_dropout: float) -> str | None:
    """Name a source of randomness inside the model, if there is one."""
    if lora_dropout > 0:
        return f"train.lora.dropout {lora_dropout:g}"
    for key, value in settings.items():
        if ("drop" in key or "jitter" in key) and isinstance(value, int | float) and value > 0:
            return f"{key} {value:g} in the model's config"
    return None
