"""A tiny model of every family for which shared prefixes are proven, with random weights; windows of 8 tokens."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCAB = 96
WINDOW = 8
_SHAPE = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_WINDOWS = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_TWICE = {"layer_types": ["sliding_attention", "full_attention"] * 2}
_GEMMA4 = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB, "global_head_dim": 16, **_WINDOWS}
# A model type, and behind a comma which of its kinds.
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, **_WINDOWS},
    "qwen3": {},
    "mistral": {"sliding_window": WINDOW},
    "ministral": _WINDOWS,
    "gemma2": {"query_pre_attn_scalar": 8, **_WINDOWS},
    "gemma3_text": {"query_pre_attn_scalar": 8, **_WINDOWS},
    "gemma4_text": {**_GEMMA4},
    "gemma4_text, keys of other layers": {**_GEMMA4, "num_hidden_layers": 4, "num_kv_shared_layers": 2, **_TWICE},
    "gemma4_text, experts": {**_GEMMA4, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16},
    "phi3": {"sliding_window": WINDOW},
    "phi3, Phi-4": {"sliding_window": None, "partial_rotary_factor": 0.5},
    "granite": {"attention_multiplier": 0.2, "logits_scaling": 4.0, "residual_multiplier": 0.7},
    "smollm3": {"use_sliding_window": True, "no_rope_layers": [1, 0], **_WINDOWS},
    "olmo2": {},
    "olmo3": _WINDOWS,
    "qwen3_moe": {"decoder_sparse_step": 1, **_EXPERTS},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, **_WINDOWS},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48, "block_auto_adjust_ff_dim": False},
    "qwen3_5_text": {
        "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    },
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_chunk_size": 16,
        "mamba_n_groups": 1, "shared_intermediate_size": 48, "num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 4.0,
    },
}  # fmt: skip


def tiny_seeing() -> PreTrainedModel:
    """The tiny Gemma 3 as it is published from 4B on: beside a part that sees."""
    eyes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    text = tiny("gemma3_text").config.to_dict()
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gemma3", text_config=text, vision_config=eyes, mm_tokens_per_image=4)
    ).eval()


def tiny(family: str, seed: int = 0, **changes: object) -> PreTrainedModel:
    """Make the family's tiny model, in inference mode; every weight differs from its neutral start."""
    config = AutoConfig.for_model(family.partition(",")[0], **(_SHAPE | FAMILIES[family] | changes))
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()
