"""Supervised tuning against its peers: rows a second, memory and processor time, with shared prefixes and without.

    python bench/sft.py --peers trl=/path/to/python llamafactory=/path/to/python litgpt=/path/to/python --json bench/results/sft.json
    python bench/sft.py --device cuda --peers trl=python3 --seconds 150 --json build/bench/sft-gpu.json

On a CPU: SNIPS rows behind a system prompt of 10, 38 or 150 tokens, 16 rows a step, on a Llama shape of 135M random
weights and on the starter, as LoRA (rank 16) and with every weight. On a GPU: shapes of 0.6B to 8B random weights on
such rows, and on rows of 1,024 random tokens, all trained, of which `utilization` says what share of the measured rate
of matrix products their own operations make (`flops_per_token` in bench/sft_task.py says which are counted).

Every candidate runs in a process of its own and they take turns, `--rounds` times; what counts is the median. Rows,
model, batch and adapter are the same, on a CPU also the weights, so that the losses agree; TRL's SFTTrainer is given
bfloat16, padded and packed, with Liger's kernels on a GPU, and activation checkpointing where Luthier has it.
`llamafactory` computes layers again, which is its default, `llamafactory open` does not; litgpt runs on a CPU only here.
Each peer needs an environment of its own:

    pip install trl==1.16.0 transformers==5.23.0 datasets
    pip install llamafactory==0.9.5, and where its torchvision and torchaudio do not fit the torch for CPUs: pip uninstall
        torchvision torchaudio, and an empty torchaudio.py in their place
    pip install litgpt==0.5.13 jsonargparse requests "transformers>=5"

Without --peers only Luthier runs: `tree` shares what rows begin with, `packed` does not. A bench that was ended goes on
where --json has what is measured already; more rounds later are added to it. --quick is a smoke test with tiny shapes;
with `--cases gpu` it walks the GPU's on a CPU. `python bench/sft_page.py` writes the table and the plot of the page.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from sft_cases import CANDIDATES, SHAPES, Case, on_a_cpu, on_a_gpu
from sft_processes import Figures, in_turn
from sft_tasks import Tasks
from timing import machine

from luthier.kernels.rates import matmul_rate

SNIPS = Path(__file__).parents[2] / "shared" / "data" / "tasks" / "snips" / "train.jsonl"
Turn = dict[str, Any]
# What must be as it was where a bench goes on.
_SAME = ("bench", "processor", "cores", "threads", "torch", "transformers", "gpu", "steps")


def turns(
    cases: Sequence[Case], candidates: Sequence[str], rounds: int, before: Sequence[Turn]
) -> Iterator[tuple[Case, str]]:
    """Yield who is measured when, a round of all cases before the next, without the turns that were taken before."""
    taken = Counter((json.dumps(turn["case"]), turn["candidate"]) for turn in before)
    for _ in range(rounds):
        for case in cases:
            for name in case.candidates:
                if name in candidates:
                    taken[json.dumps(case.name), name] -= 1
                    if taken[json.dumps(case.name), name] < 0:
                        yield case, name


def summary(taken: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return the medians of every case's candidates."""
    said: defaultdict[str, defaultdict[str, list[Figures]]] = defaultdict(lambda: defaultdict(list))
    tokens: dict[str, float] = {}
    for turn in taken:
        case = json.dumps(turn["case"])
        said[case][turn["candidate"]].append(turn["figures"])
        tokens[case] = turn["tokens_a_row"]
    return [
        json.loads(case)
        | {"tokens_a_row": tokens[case]}
        | {"candidates": {name: median(figures) for name, figures in by_name.items()}}
        for case, by_name in said.items()
    ]


def median(all_said: Sequence[Figures]) -> Figures:
    """Return the median of every number, and the words as they were said first; a failure is all there is to say."""
    failed = [said for said in all_said if "failed" in said]
    if failed:
        return failed[0]
    return {
        key: value if isinstance(value, str) else round(statistics.median(float(said[key]) for said in all_said), 4)
        for key, value in all_said[0].items()
    } | {"rounds": len(all_said)}


def utilization(case: Case, name: str, figures: Figures, rate: float) -> Figures:
    """Return the share of the rate of matrix products that the step's own operations make.

    Only where every token of every row is computed once and trained: elsewhere what is left out would count as done.
    """
    if "failed" in figures or not case.tokens or name == "luthier tree":
        return {}
    return {"utilization": round(float(figures["flops_per_token"]) * float(figures["tokens_per_second"]) / rate, 3)}


def measured(given: argparse.Namespace, order: Sequence[tuple[Case, str]], rate: float) -> Iterator[Turn]:
    """Let every candidate have its turns, and yield each when it is done."""
    until = time.monotonic() + given.seconds
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
                shown = {key: value for key, value in figures.items() if key != "trace"}
                print(f"{case.name} {name}: {shown}", file=sys.stderr, flush=True)
                yield {"case": case.name, "candidate": name, "tokens_a_row": tasks.tokens_a_row[case], "figures": figures}  # fmt: skip


def begun(file: Path | None, report: dict[str, Any]) -> list[Turn]:
    """Return the turns that a bench before this one has kept, failures aside; end where that one was another bench."""
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text(encoding="utf-8"))
    if other := [f"{key} {found.get(key)}" for key in _SAME if found.get(key) != report.get(key)]:
        raise SystemExit(f"{file} was measured with {', '.join(other)}; give another --json, or remove it.")
    return [turn for turn in found.get("turns", []) if "failed" not in turn["figures"]]


def pythons(named: Sequence[str]) -> dict[str, str]:
    """Return the Python of each peer, given as NAME=PYTHON."""
    parted = [one.partition("=") for one in named]
    peers = {name: python for name, _, python in parted}
    known = {name.split()[0] for name in CANDIDATES} - {"luthier"}
    if strange := [one for one, (name, _, python) in zip(named, parted) if name not in known or not python]:
        raise SystemExit(f"--peers: {', '.join(strange)}: expected NAME=PYTHON of {', '.join(sorted(known))}.")
    return peers


def asked() -> argparse.Namespace:
    """Read what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="*", default=[], metavar="NAME=PYTHON", help="The Python of each peer's environment.")  # fmt: skip
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", choices=("cpu", "gpu"), help="As the device has them.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="Timed steps of each process, after one that warms up.")
    parser.add_argument("--models", nargs="*", help="llama-135m and the starter; of a GPU's cases, these only.")
    parser.add_argument("--methods", nargs="*", default=["lora", "full"])
    parser.add_argument("--shared", type=int, nargs="*", default=[10, 38, 150])
    parser.add_argument("--candidates", nargs="*", default=list(CANDIDATES), help="Of these, those that have a Python.")
    parser.add_argument("--rows", type=Path, default=SNIPS, help="The rows of SNIPS, where they lie elsewhere.")
    parser.add_argument("--seconds", type=float, default=1e9, help="No candidate begins later.")
    parser.add_argument("--limit", type=float, default=3600, help="Seconds that a candidate may take.")
    parser.add_argument("--ahead", type=int, default=0, help="So many processes import while another is measured.")
    parser.add_argument("--json", type=Path, help="Where the report is kept after every turn, and found again.")
    parser.add_argument("--quick", action="store_true", help="One round of one step with a tiny shape.")
    given = parser.parse_args()
    given.peers = pythons(given.peers)
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
    report = {"bench": "sft", **machine(), **gpu, "gflops": rate, "steps": given.steps}
    taken = begun(given.json, report)
    names = [name for name in given.candidates if name.split()[0] in {"luthier", *given.peers}]
    order = list(turns(cases, names, given.rounds, taken))
    for turn in measured(given, order, 1e9 * rate[str(torch.bfloat16)]):
        taken.append(turn)
        if given.json:
            written = json.dumps(report | {"results": summary(taken), "turns": taken}, indent=1)
            given.json.write_text(written + "\n", encoding="utf-8")
    results = summary(taken)
    print(json.dumps(report | {"results": results}, indent=1))
    if failed := [name for result in results for name, said in result["candidates"].items() if "failed" in said]:  # fmt: skip
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
