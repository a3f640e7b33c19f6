"""Tokens per second of the starter's pretraining, plain and with torch.compile, and the share of the machine's matrix rate.

    python -m luthier.starter.recipe ../shared/data/corpus build/starter/measured --tokens 1000000 --seed 1 --tokenizer src/luthier/starter/model
    python bench/pretraining.py build/starter/measured [--steps 60]

Each way trains in a process of its own, in turns; the median step counts, the first ten are warm-up and
told apart. Operations are 6 a weight and token (`training_flops`); attention's own are not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from timing import machine

from luthier.core.threads import child_environment
from luthier.kernels.rates import matmul_rate
from luthier.models.flops import training_flops
from luthier.models.sizes import shape_of

SETTINGS = Path(__file__).parents[1] / "examples" / "starter.yaml"
WARM_UP = 10


def measured(data: Path, steps: int, *, compiled: bool) -> list[tuple[float, int]]:
    """Train for some steps and return the seconds and the tokens of each."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        changes = {
            "data.path": data / "train.jsonl", "data.validation": data / "heldout.jsonl", "train.steps": steps,
            "model.init.tokenizer": data / "tokenizer", "train.validate_every": steps, "train.compile": str(compiled).lower(),
        }  # fmt: skip
        words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "luthier.cli.main", "train", SETTINGS, *words, "--out", run]
        threads = torch.get_num_threads()
        subprocess.run(command, env=child_environment(threads), check=True, stderr=subprocess.DEVNULL)
        seconds = [json.loads(line)["seconds"] for line in (run / "timings.jsonl").read_text().splitlines()]
        tokens = [json.loads(line)["tokens"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return list(zip(seconds, tokens, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    config = json.loads((SETTINGS.parents[1] / "src/luthier/starter/model/config.json").read_text())
    rates: list[float] = []
    found: dict[str, list[list[tuple[float, int]]]] = {"plain": [], "compiled": []}
    for _ in range(chosen.rounds):
        for name, rounds in found.items():
            rates.append(matmul_rate(torch.bfloat16, seconds=1.0))
            rounds.append(measured(chosen.data, chosen.steps, compiled=name == "compiled"))
    flops, rate = training_flops(shape_of(config), 1), statistics.median(rates)
    ways = {}
    for name, rounds in found.items():
        speed = statistics.median(tokens / seconds for steps in rounds for seconds, tokens in steps[WARM_UP:])
        ways[name] = {
            "tokens_per_second": round(speed), "share_of_matrix_rate": round(speed * flops / rate, 3),
            "first_steps_seconds": [round(sum(seconds for seconds, _ in steps[:WARM_UP]), 1) for steps in rounds],
        }  # fmt: skip
    print(json.dumps({**machine(), "matrix_gflops": round(rate / 1e9), "steps": chosen.steps, **ways}, indent=1))


if __name__ == "__main__":
    main()
