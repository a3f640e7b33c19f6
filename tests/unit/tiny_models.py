"""Tiny models with random weights, for tests."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM


def tiny_llama(vocab_size: int = 512, *, seed: int = 0, tied: bool = True, **options: object) -> LlamaForCausalLM:
    """Two layers, with weights large enough that its answers vary."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3, tie_word_embeddings=tied,
        **options,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def tiny_unproven() -> LlamaForCausalLM:
    """The tiny Llama under a name of which nothing is proven, so that it runs as any model does."""
    model = tiny_llama()
    model.config.model_type = "strange"
    return model


def tiny_sliding(vocab_size: int = 512) -> MistralForCausalLM:
    """A model whose layers see only the last eight tokens."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3, sliding_window=8,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()
