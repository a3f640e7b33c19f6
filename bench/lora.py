"""What LoRA's layers cost: Luthier's own against PEFT's, and both against the frozen model alone.

    python bench/lora.py [--layers 6] [--rows 4] [--rounds 2]

Llama shapes as wide as the 135M one, random weights, bfloat16, rows behind a shared prompt laid out as a tree. One training step
forward and backward, in seconds of processor time, of which the least of all rounds counts; the candidates take turns. `frozen`
hands gradients down to the embeddings and trains nothing else: what adapters add is the difference to it.
"""

import argparse
import json
import time

import torch
from peft import LoraConfig, get_peft_model
from random_rows import shared_rows
from timing import machine
from transformers import LlamaConfig, LlamaForCausalLM

from luthier.config.settings import LoraSettings
from luthier.data.loader import as_tree
from luthier.kernels import attention
from luthier.models.adapters import add_lora
from luthier.train.policy import Policy


def policies(layers: int) -> dict[str, Policy]:
    """Return the three candidates on equal weights."""
    made: dict[str, Policy] = {}
    for name in ("frozen", "peft", "luthier"):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
            num_key_value_heads=3, tie_word_embeddings=False,
        )  # fmt: skip
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        if name == "luthier":
            policy = Policy(add_lora(model, LoraSettings(rank=16, alpha=32), 0, "bench", None))
        elif name == "peft":
            lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
            policy = Policy(get_peft_model(model, lora, autocast_adapter_dtype=False))
        else:
            policy = Policy(model.requires_grad_(False))
            model.get_input_embeddings().requires_grad_(True)
        policy.stock.set_attn_implementation(attention.register())
        made[name] = policy
    return made


def main() -> None:
    """Time the candidates by turns and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    store = shared_rows(given.rows, shared=150, own=58, vocab_size=49152)
    batch = as_tree(store, range(len(store)))
    made, seconds = policies(given.layers), {}
    for number in range(given.rounds + 1):
        for name, policy in made.items():
            start = time.process_time()
            policy.weighted_nll(batch).backward()
            if number:  # the first round warms up
                seconds.setdefault(name, []).append(time.process_time() - start)
            policy.model.zero_grad(set_to_none=True)
    least = {name: round(min(found), 3) for name, found in seconds.items()}
    added = {name: round(least[name] / least["frozen"] - 1, 3) for name in ("peft", "luthier")}
    print(json.dumps({"bench": "lora", **machine(), "layers": given.layers, "rows": given.rows, "positions": batch.num_positions, "processor_seconds": least, "added_to_frozen": added}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
