"""Supervised tuning against its peers: rows a second, memory and processor time, with shared prefixes and without.

    python bench/sft.py --peers /path/to/venv-with-trl/bin/python > build/bench/sft.json
    python bench/sft.py --device cuda --peers python3 --seconds 150 --json build/bench/sft-gpu.json

On a CPU: SNIPS rows behind a system prompt of 10, 38 or 150 tokens, 16 rows a step, on a Llama shape of 135M random
weights and on the starter, as LoRA (rank 16) and with every weight. On a GPU: shapes of 0.6B to 8B random weights on
such rows, and on rows of 1,024 random tokens, all trained, of which `utilization` says what share of the measured rate
of matrix products their own operations make (`flops_per_token` in bench/sft_task.py says which are counted).

Every candidate runs in a process of its own and they take turns, `--rounds` times; what counts is the median. Rows,
model, batch and adapter are the same; TRL's SFTTrainer is given bfloat16, padded and packed, with Liger's kernels on a
GPU, and activation checkpointing where Luthier has it. Without --peers only Luthier runs: `tree` shares what rows
begin with, `packed` does not. --quick is a smoke test with tiny shapes; with `--cases gpu` it walks the GPU's on a CPU.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from sft_cases import CANDIDATES, SHAPES, Case, on_a_cpu, on_a_gpu
from sft_processes import Figures, in_turn
from timing import machine
from transformers import AutoTokenizer

import luthier.starter
from luthier.kernels.rates import matmul_rate

HERE = Path(__file__).parent
SNIPS = HERE.parents[1] / "shared" / "data" / "tasks" / "snips" / "train.jsonl"
STARTER = Path(luthier.starter.__file__).parent / "model"


def turns(cases: Sequence[Case], peers: str | None, rounds: int) -> Iterator[tuple[Case, str]]:
    """Yield who is measured when: all rounds of a case before the next, all candidates in every round."""
    for case in cases:
        for _ in range(rounds):
            yield from ((case, name) for name in case.candidates if peers or name.startswith("luthier"))


class Tasks:
    """The tasks of the cases as files, each made when first asked for."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.tokens_a_row: dict[Case, float] = {}
        self._tokenizer = AutoTokenizer.from_pretrained(STARTER)

    def command(self, case: Case, name: str) -> list[str]:
        """Return what runs a candidate of a case."""
        program, *words = CANDIDATES[name]
        python = sys.executable if name.startswith("luthier") else self.given.peers
        return [python, str(HERE / program), str(self._file(case)), *words]

    def _file(self, case: Case) -> Path:
        numbers = list(self.tokens_a_row)
        if case in self.tokens_a_row:
            return self.folder / f"{numbers.index(case)}.json"
        rows = case.rows(self.given.rows, self._tokenizer, self.given.steps + 1)
        self.tokens_a_row[case] = round(sum(len(row["input_ids"]) for row in rows) / len(rows), 1)
        path = self.folder / f"{len(numbers)}.json"
        settings = {"rows_a_step": case.rows_a_step, "steps": self.given.steps, "method": case.method, "micro_tokens": case.micro_tokens}  # fmt: skip
        model = {"config": case.config(self.given.quick), "folder": str(STARTER), "device": self.given.device, "checkpointing": case.checkpointing}  # fmt: skip
        path.write_text(json.dumps({"rows": rows, **settings, **model}))
        return path


def median(all_said: Sequence[Figures]) -> Figures:
    """Return the median of every number, and the words as they were said first; a failure is all there is to say."""
    failed = [said for said in all_said if "failed" in said]
    if failed:
        return failed[0]
    return {
        key: value if isinstance(value, str) else round(statistics.median(said[key] for said in all_said), 3)
        for key, value in all_said[0].items()
    }


def utilization(case: Case, name: str, figures: Figures, rate: float) -> Figures:
    """Return the share of the rate of matrix products that the step's own operations make.

    Only where every token of every row is computed once and trained: elsewhere what is left out would count as done.
    """
    if "failed" in figures or not case.tokens or name == "luthier tree":
        return {}
    return {"utilization": round(float(figures["flops_per_token"]) * float(figures["tokens_per_second"]) / rate, 3)}


def measured(given: argparse.Namespace, cases: Sequence[Case], rate: float) -> Iterator[list[dict[str, Any]]]:
    """Let every candidate of every case have its turns, and yield the results so far after each."""
    until = time.monotonic() + given.seconds
    said: defaultdict[Case, defaultdict[str, list[Figures]]] = defaultdict(lambda: defaultdict(list))
    order = list(turns(cases, given.peers, given.rounds))
    with tempfile.TemporaryDirectory() as folder:
        tasks = Tasks(given, Path(folder))
        commands = (tasks.command(*turn) for turn in order)
        with closing(in_turn(commands, torch.get_num_threads(), given.ahead)) as candidates:
            for (case, name), candidate in zip(order, candidates, strict=False):
                if time.monotonic() > until:
                    candidate.dismiss()
                    return
                figures = candidate.measure(given.limit)
                figures |= utilization(case, name, figures, rate)
                said[case][name].append(figures)
                shown = {key: value for key, value in figures.items() if key != "trace"}
                print(f"{case.name} {name}: {shown}", file=sys.stderr, flush=True)
                yield [
                    case.name
                    | {"tokens_a_row": tasks.tokens_a_row[case]}
                    | {"candidates": {name: median(figures) for name, figures in by_name.items()}}
                    for case, by_name in said.items()
                ]


def asked() -> argparse.Namespace:
    """Read what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="The Python of an environment that has trl.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", choices=("cpu", "gpu"), help="As the device has them.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="Timed steps of each process, after one that warms up.")
    parser.add_argument("--models", nargs="*", help="llama-135m and the starter; of a GPU's cases, these only.")
    parser.add_argument("--methods", nargs="*", default=["lora", "full"])
    parser.add_argument("--shared", type=int, nargs="*", default=[10, 38, 150])
    parser.add_argument("--rows", type=Path, default=SNIPS, help="The rows of SNIPS, where they lie elsewhere.")
    parser.add_argument("--seconds", type=float, default=1e9, help="No candidate begins later.")
    parser.add_argument("--limit", type=float, default=3600, help="Seconds that a candidate may take.")
    parser.add_argument("--ahead", type=int, default=0, help="So many processes import while another is measured.")
    parser.add_argument("--json", type=Path, help="Where the report is kept, anew after every candidate.")
    parser.add_argument("--quick", action="store_true", help="One round of one step with a tiny shape.")
    given = parser.parse_args()
    if given.quick:
        given.rounds = given.steps = 1
    return given


def main() -> None:
    """Measure every case that was asked for and print JSON."""
    given = asked()
    if (given.cases or {"cpu": "cpu", "cuda": "gpu"}[given.device]) == "cpu":
        cases = list(on_a_cpu(given.models or ["llama-135m", "starter"], given.methods, given.shared))
    else:
        named = given.models or SHAPES
        cases = [case for case in on_a_gpu(given.quick) if case.model in named and case.method in given.methods]
    rate = {str(dtype): round(matmul_rate(dtype, given.device) / 1e9) for dtype in (torch.bfloat16, torch.float32)}
    gpu = {"gpu": torch.cuda.get_device_name()} if given.device == "cuda" else {}
    report = {"bench": "sft", **machine(), **gpu, "gflops": rate, "rounds": given.rounds, "steps": given.steps}  # fmt: skip
    results: list[dict[str, Any]] = []
    for results in measured(given, cases, 1e9 * rate[str(torch.bfloat16)]):
        if given.json:
            given.json.write_text(json.dumps(report | {"results": results}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report | {"results": results}, indent=1))
    if failed := [name for result in results for name, said in result["candidates"].items() if "failed" in said]:  # fmt: skip
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
