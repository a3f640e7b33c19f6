"""What every candidate of bench/sft.py does alike: make the model of its task, take time and memory. It needs nothing of Luthier."""

import json
import resource
import sys
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, TrainerCallback


def wait_for_the_turn() -> None:
    """Return when the parent says so: all that is imported may be imported while another candidate still runs."""
    sys.stdin.readline()


def make_model(task: dict, dtype: torch.dtype) -> PreTrainedModel:
    """Load the model, or make it from random weights, on a GPU right there and in its type."""
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


class Stopwatch(TrainerCallback):
    """Notes time, memory and loss after every step; transformers' trainers call it, others may call `note`."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.times: list[tuple[float, float]] = []
        self.losses: list[float] = []
        self.peak: dict[str, float] = {}

    def note(self) -> None:
        """Note that a step has ended."""
        self.times.append(now(self.device))
        self.peak = peak(self.device)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Note that a step has ended."""
        self.note()

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Note a step's loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def report(self, task: dict, **more: object) -> None:
        """Print rows and tokens a second, processor seconds a row, memory, and the loss of the first step, which is not timed: all begin alike."""
        (wall, processor), (last_wall, last_processor) = self.times[0], self.times[-1]
        rows = len(task["rows"]) * (len(self.times) - 1) / len(self.times)
        tokens = sum(len(row["input_ids"]) for row in task["rows"]) / len(task["rows"]) * rows
        seconds = last_wall - wall
        print(json.dumps({
            "rows_per_second": rows / seconds, "tokens_per_second": tokens / seconds,
            "cpu_seconds_per_row": (last_processor - processor) / rows, **self.peak, "first_loss": self.losses[0], **more,
        }))  # fmt: skip


def labels(row: dict[str, list[int]]) -> list[int]:
    """Return what is to be predicted, with -100 where nothing is trained."""
    return [token if trained else -100 for token, trained in zip(row["input_ids"], row["completion_mask"], strict=True)]


def rows_at_once(task: dict) -> int:
    """Return how many rows go through the model together: as many of a step as their positions allow, in equal parts."""
    longest, number = max(len(row["input_ids"]) for row in task["rows"]), task["rows_a_step"]
    return next(n for n in range(number, 0, -1) if number % n == 0 and (n * longest <= task["micro_tokens"] or n == 1))
