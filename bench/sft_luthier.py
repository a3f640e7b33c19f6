"""One candidate of bench/sft.py: Luthier's own training step, in the layout that is given.

python bench/sft_luthier.py TASK.json tree|packed
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from sft_task import flops_per_token, make_model, now, peak, wait_for_the_turn

from luthier.compat.checkpointing import compute_again
from luthier.config.settings import LoraSettings, TrainSettings
from luthier.core.rundir import create
from luthier.core.types import Rendered
from luthier.data.loader import Layout, SequenceStore
from luthier.kernels import attention
from luthier.models.adapters import add_lora, train_all
from luthier.train.loop import Trainer
from luthier.train.objectives.sft import Objective
from luthier.train.policy import Policy


def main(task: dict, layout: Layout) -> None:
    """Train the steps of the task and print rows and tokens a second, processor seconds a row and peak memory."""
    sequences = [
        Rendered(
            f"r{n}", np.array(row["input_ids"], dtype=np.int32), np.array(row["completion_mask"], dtype=np.float32)
        )
        for n, row in enumerate(task["rows"])
    ]
    store = SequenceStore(sequences)
    model = make_model(task, torch.bfloat16)
    lora = LoraSettings(rank=16, alpha=32)
    policy = Policy(add_lora(model, lora, 0, "bench", None) if task["method"] == "lora" else train_all(model))
    policy.stock.set_attn_implementation(attention.register())
    if task["checkpointing"]:
        compute_again(policy.stock)
    tokens = int(store.lengths.sum()) // (task["steps"] + 1)
    settings = TrainSettings(
        method=task["method"], lr=1e-4, steps=task["steps"] + 1, batch_tokens=tokens, micro_tokens=task["micro_tokens"], layout=layout,
        compile=False,
    )  # fmt: skip
    device = task["device"]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(policy, Objective(), store, settings, 0, create(Path(folder) / "run", "bench"))
        batches = np.arange(len(store)).reshape(-1, task["rows_a_step"])
        first = trainer._train_on(trainer._laid_out(batches[0]))
        wall, processor = now(device)
        entries = [trainer._train_on(trainer._laid_out(batch)) for batch in batches[1:]]
        last_wall, last_processor = now(device)
    wall, processor = last_wall - wall, last_processor - processor
    rows = batches[1:].size
    print(json.dumps({
        "rows_per_second": rows / wall, "tokens_per_second": sum(entry.tokens for entry in entries) / wall,
        "cpu_seconds_per_row": processor / rows, **peak(device),
        "processed_per_token": sum(entry.processed for entry in entries) / sum(entry.tokens for entry in entries),
        "first_loss": first.loss, "flops_per_token": flops_per_token(policy.model),
    }))  # fmt: skip


if __name__ == "__main__":
    wait_for_the_turn()
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
