"""Where the time of a training step goes: threads, lanes, compiled layers, and the share of each kind of operation.

    python bench/step.py [--method lora|full] [--json bench/results/step.json]

The step is that of bench/sft.py: SNIPS rows behind 150 shared tokens on a Llama shape of 135M random weights, 16 rows as a
tree; LoRA of rank 16, or every weight. Printed are rows a second, the median of three steps each behind one that warms up: with two threads inside
each operation (of six steps, in turns with the same without the compiled functions of kernels/native.py), with one, with two and compiled layers (and the seconds of the first step, which compiles), and, for LoRA, in two Python
threads that each take half of the rows as a tree of their own with one thread inside; the lanes compute losses and gradients only, without the optimizer's step.
`shares` are those of one step with two threads, as torch's profiler sees them, and `gflop` what has to be multiplied (models/flops.py), with the rows a second
that the measured rate of products would allow.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from sft_cases import SHAPES, snips_rows
from sft_task import make_model
from timing import machine
from torch.profiler import ProfilerActivity, profile
from transformers import AutoTokenizer

import luthier.starter
from luthier.config.settings import LoraSettings, TrainSettings
from luthier.core.rundir import create
from luthier.core.types import Rendered
from luthier.data.loader import Batch, SequenceStore
from luthier.kernels import attention, native_attention
from luthier.kernels.rates import matmul_rate
from luthier.kernels.tree_attention import blocks
from luthier.models.adapters import add_lora
from luthier.models.flops import Work, step_flops
from luthier.models.sizes import shape_of
from luthier.train.loop import Trainer
from luthier.train.objectives.sft import Objective
from luthier.train.policy import Policy

SNIPS = Path(__file__).parents[2] / "shared/data/tasks/snips/train.jsonl"
ROWS, STEPS, SHARED = 16, 4, 150
# What the profiler calls each kind; `total` counts what an operation calls, the others their own time only.
KINDS = {
    "products of matrices": ("self", ("aten::mm", "aten::addmm", "aten::addmm_")),
    "attention": ("total", ("_Attention", "_AttentionBackward")),
    "head": ("total", ("_WeightedNll",)),
}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    store, full = _store(), given.method == "full"
    steps = np.arange(ROWS * STEPS).reshape(STEPS, ROWS)
    rows_per_second: dict[str, float] = {}
    with _trainer(store, full=full, compiled=False) as trainer:
        whole = [trainer._laid_out(rows) for rows in steps]
        rows_per_second |= _in_turns(
            whole, {"2 threads": trainer._train_on, "2 threads, no compiled functions": _as_written(trainer)}
        )
        torch.set_num_threads(1)
        rows_per_second["1 threads"], _ = _measured(whole, trainer._train_on)
        if not full:
            halves = [[trainer._laid_out(half) for half in np.split(rows, 2)] for rows in steps]
            rows_per_second["2 lanes"], _ = _measured(halves, _lanes(trainer))
        torch.set_num_threads(2)
        shares = _shares(trainer, whole[1])
        flops = statistics.median(_flops(trainer, micro, full=full) for micro in whole[1:])
    with _trainer(store, full=full, compiled=True) as trainer:
        rows_per_second["2 threads, compiled"], compiling = _measured(whole, trainer._train_on)
    rate = matmul_rate(torch.bfloat16)
    report = {
        "bench": "step", **machine(), "method": given.method, "rows_per_second": rows_per_second, "first_compiled_step_seconds": compiling,
        "shares": shares, "gflop": round(flops / 1e9), "gflops_measured": round(rate / 1e9), "rows_per_second_of_the_rate": round(ROWS * rate / flops, 1),
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if given.json:
        kept = json.loads(given.json.read_text(encoding="utf-8")) if given.json.exists() else {}
        given.json.write_text(json.dumps(kept | {given.method: report}, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _trainer(store: SequenceStore, *, full: bool, compiled: bool) -> Iterator[Trainer]:
    model = make_model({"config": SHAPES["llama-135m"], "device": "cpu"}, torch.bfloat16)
    if not full:
        model = add_lora(model, LoraSettings(rank=16, alpha=32), 0, "bench", None)
    policy = Policy(model, compiled=compiled)
    policy.stock.set_attn_implementation(attention.register(compiled=compiled))
    settings = TrainSettings(
        method="full" if full else "lora", lr=1e-4, steps=STEPS, batch_tokens=int(store.lengths.sum()) // STEPS,
        micro_tokens=8192, layout="tree", compile=compiled,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        yield Trainer(policy, Objective(), store, settings, 0, create(Path(folder) / "run", "bench"))


def _measured(steps: list, run: Callable) -> tuple[float, float]:
    """Return the median rows a second behind the first step, and the seconds of that."""
    seconds = []
    for step in steps:
        started = time.perf_counter()
        run(step)
        seconds.append(time.perf_counter() - started)
    return round(ROWS / statistics.median(seconds[1:]), 2), round(seconds[0], 1)


def _in_turns(steps: list, runs: dict[str, Callable]) -> dict[str, float]:
    """Return the median rows a second of each, which take every step one behind the other, twice; the first step warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for step in [*steps, *steps[1:]]:
        for name, run in runs.items():
            started = time.perf_counter()
            run(step)
            seconds[name].append(time.perf_counter() - started)
    return {name: round(ROWS / statistics.median(taken[1:]), 2) for name, taken in seconds.items()}


def _as_written(trainer: Trainer) -> Callable[[list[Batch]], object]:
    """Train with norms and gates as the model's file has them and attention as products of torch, without the compiled functions."""
    policy = trainer.policy

    def run(micro: list[Batch]) -> object:
        kept, policy._swaps = policy._swaps, {False: [], True: []}
        attends, native_attention.library_for = native_attention.library_for, lambda *_: None
        try:
            return trainer._train_on(micro)
        finally:
            policy._swaps, native_attention.library_for = kept, attends

    return run


def _lanes(trainer: Trainer) -> Callable[[list[list[Batch]]], list[None]]:
    pool = ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))

    def lane(micro: list[Batch]) -> None:
        for batch in micro:
            trainer.objective.loss(trainer.policy, batch).backward()

    trainer.policy.model.train()
    return lambda both: list(pool.map(lane, both))


def _shares(trainer: Trainer, micro: list[Batch]) -> dict[str, float]:
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        trainer._train_on(micro)
    times = {one.key: one for one in seen.key_averages()}
    whole = sum(one.self_cpu_time_total for one in times.values())
    return {
        kind: round(sum(getattr(times[name], f"{'self_' if how == 'self' else ''}cpu_time_total") for name in names if name in times) / whole, 2)
        for kind, (how, names) in KINDS.items()
    }  # fmt: skip


def _flops(trainer: Trainer, micro: list[Batch], *, full: bool) -> int:
    scores = sum(block.num_scores for batch in micro if batch.tree for block in blocks(batch.tree.segments))
    work = Work(sum(batch.num_positions for batch in micro), sum(len(batch.target_T) for batch in micro), scores)
    trained = sum(parameter.numel() for parameter in trainer.policy.model.parameters() if parameter.requires_grad)
    return step_flops(shape_of(trainer.policy.stock.config.to_dict()), work, trained, full=full, checkpointing=False)


def _store() -> SequenceStore:
    tokenizer = AutoTokenizer.from_pretrained(Path(luthier.starter.__file__).parent / "model")
    rows = snips_rows(SNIPS, tokenizer, SHARED, ROWS * STEPS)
    return SequenceStore([
        Rendered(f"r{n}", np.array(row["input_ids"], dtype=np.int32), np.array(row["completion_mask"], dtype=np.float32))
        for n, row in enumerate(rows)
    ])  # fmt: skip


if __name__ == "__main__":
    main()
