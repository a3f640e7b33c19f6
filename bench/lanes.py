"""What a second thread adds to a training step, and what two lanes would: half of the rows each, one thread each.

    python bench/lanes.py

The step is that of bench/sft.py: SNIPS rows behind 150 shared tokens, LoRA of rank 16 on a Llama shape of 135M random
weights, 16 rows as a tree. Printed are rows a second, three steps each: with two threads inside each operation, with one,
and in two Python threads that each take half of the rows as a tree of their own with one thread inside; the lanes
compute losses and gradients only, without the optimizer's step.
"""

import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from sft_cases import SHAPES, snips_rows
from sft_task import make_model
from timing import machine
from transformers import AutoTokenizer

import luthier.starter
from luthier.config.settings import LoraSettings, TrainSettings
from luthier.core.rundir import create
from luthier.core.types import Rendered
from luthier.data.loader import Batch, SequenceStore
from luthier.kernels import attention
from luthier.models.adapters import add_lora
from luthier.train.loop import Trainer
from luthier.train.objectives.sft import Objective
from luthier.train.policy import Policy

SNIPS = Path(__file__).parents[2] / "shared/data/tasks/snips/train.jsonl"
ROWS, STEPS, SHARED = 16, 3, 150


def main() -> None:
    """Measure and print JSON."""
    store = _store()
    policy = Policy(add_lora(_model(), LoraSettings(rank=16, alpha=32), 0, "bench", None))
    policy.stock.set_attn_implementation(attention.register())
    tokens = int(store.lengths.sum()) // STEPS
    settings = TrainSettings(
        method="lora", lr=1e-4, steps=STEPS, batch_tokens=tokens, micro_tokens=8192, layout="tree", compile=False
    )
    steps = np.arange(ROWS * STEPS).reshape(STEPS, ROWS)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        trainer = Trainer(policy, Objective(), store, settings, 0, create(Path(folder) / "run", "bench"))
        whole = [trainer._laid_out(rows) for rows in steps]
        halves = [[trainer._laid_out(half) for half in np.split(rows, 2)] for rows in steps]

        def lane(micro: list[Batch]) -> None:
            torch.set_num_threads(1)
            for batch in micro:
                trainer.objective.loss(policy, batch).backward()

        found = {}
        for threads in (2, 1):
            torch.set_num_threads(threads)
            found[f"{threads} threads"] = _rates(whole, trainer._train_on)
        policy.model.train()
        found["2 lanes"] = _rates(halves, lambda both: list(pool.map(lane, both)))
    print(json.dumps({"bench": "lanes", **machine(), "rows_per_second": found}, indent=1))


def _rates(steps: list, run: Callable) -> list[float]:
    """Return the rows a second of each step; the first warms up."""
    rates = []
    for step in steps:
        started = time.perf_counter()
        run(step)
        rates.append(round(ROWS / (time.perf_counter() - started), 2))
    return rates


def _model() -> torch.nn.Module:
    return make_model({"config": SHAPES["llama-135m"], "device": "cpu"}, torch.bfloat16)


def _store() -> SequenceStore:
    tokenizer = AutoTokenizer.from_pretrained(Path(luthier.starter.__file__).parent / "model")
    rows = snips_rows(SNIPS, tokenizer, SHARED, ROWS * STEPS)
    return SequenceStore([
        Rendered(f"r{n}", np.array(row["input_ids"], dtype=np.int32), np.array(row["completion_mask"], dtype=np.float32))
        for n, row in enumerate(rows)
    ])  # fmt: skip


if __name__ == "__main__":
    main()
