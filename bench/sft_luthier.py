"""One candidate of bench/sft.py: Luthier's own training step, in the layout that is given.

python bench/sft_luthier.py TASK.json tree|packed
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from luthier.config.settings import LoraSettings, TrainSettings
from luthier.core.rundir import create
from luthier.core.types import Rendered
from luthier.data.loader import SequenceStore
from luthier.kernels import attention
from luthier.models.adapters import add_lora, train_all
from luthier.train.loop import Trainer
from luthier.train.objectives.sft import Objective
from luthier.train.policy import Policy


def main(task: dict, layout: str) -> None:
    """Train the steps of the task and print rows and tokens a second, processor seconds a row and peak memory."""
    sequences = [
        Rendered(
            f"r{n}", np.array(row["input_ids"], dtype=np.int32), np.array(row["completion_mask"], dtype=np.float32)
        )
        for n, row in enumerate(task["rows"])
    ]
    store = SequenceStore(sequences)
    torch.manual_seed(0)
    if task["config"]:
        model = LlamaForCausalLM(LlamaConfig(**task["config"])).to(torch.bfloat16)
    else:
        model = AutoModelForCausalLM.from_pretrained(task["folder"], dtype=torch.bfloat16)
    lora = LoraSettings(rank=16, alpha=32)
    policy = Policy(add_lora(model, lora, 0, "bench", None) if task["method"] == "lora" else train_all(model))
    policy.stock.set_attn_implementation(attention.register())
    tokens = int(store.lengths.sum()) // (task["steps"] + 1)
    settings = TrainSettings(
        method=task["method"], lr=1e-4, steps=task["steps"] + 1, batch_tokens=tokens, micro_tokens=8192, layout=layout, compile=False,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(policy, Objective(), store, settings, 0, create(Path(folder) / "run", "bench"))
        batches = np.arange(len(store)).reshape(-1, task["rows_a_step"])
        trainer._step(batches[0])
        wall, processor = time.perf_counter(), time.process_time()
        entries = [trainer._step(batch) for batch in batches[1:]]
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    rows = batches[1:].size
    print(json.dumps({
        "rows_per_second": rows / wall, "tokens_per_second": sum(entry.tokens for entry in entries) / wall,
        "cpu_seconds_per_row": processor / rows, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "processed_per_token": sum(entry.processed for entry in entries) / sum(entry.tokens for entry in entries),
        "loss": sum(entry.loss for entry in entries) / len(entries),
    }))  # fmt: skip


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
