"""What every candidate of bench/sft.py does alike: make the model of its task, take time and memory. It needs nothing of Luthier."""

import resource
import sys
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel


def wait_for_the_turn() -> None:
    """Return when the parent says so: all that is imported may be imported while another candidate still runs."""
    sys.stdin.readline()


def make_model(task: dict, dtype: torch.dtype) -> PreTrainedModel:
    """Make the model from random weights, on a GPU right there and in its type, or load it."""
    torch.manual_seed(0)
    if not task["config"]:
        return AutoModelForCausalLM.from_pretrained(task["folder"], dtype=dtype).to(task["device"])
    config = AutoConfig.for_model(**task["config"])
    if task["device"] == "cpu":
        return AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.device(task["device"]):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def flops_per_token(model: torch.nn.Module) -> int:
    """Count what a step must compute for a token: 6 operations for a trained weight of a linear layer, 4 for a frozen one.

    That is forward, the inputs' gradients and the weights' gradients, of 2 each. Attention's own products, norms, the
    lookup of embeddings and whatever checkpointing computes again are not counted.
    """
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return sum((6 if layer.weight.requires_grad else 4) * layer.weight.numel() for layer in layers)


def now(device: str) -> tuple[float, float]:
    """Return wall and processor time, once a GPU has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def peak(device: str) -> dict[str, float]:
    """Return the most memory so far: of the process, or on a GPU of the tensors and of what torch's allocator held for them."""
    if device == "cpu":
        return {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    held = torch.cuda.max_memory_reserved() / 2**30
    return {"peak_gib": torch.cuda.max_memory_allocated() / 2**30, "peak_held_gib": held}
