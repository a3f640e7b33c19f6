"""The forecast of a training's memory against the most that the process held: the starter on the demo's tickets.

    python bench/memory.py [--steps 24]

runs `luthier train` in a process of its own for each line of the grid, about half a minute each on one
core, and prints JSON: predicted and measured bytes, and how far the first is from the second.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import machine

from luthier.core.threads import child_environment

DATA = Path(__file__).parents[1] / "examples" / "demo" / "tickets.jsonl"
GRID = [
    {"train.method": method, "model.dtype": dtype, "train.batch_tokens": tokens, "train.micro_tokens": tokens, **more}
    for method, dtype, tokens, more in [
        ("full", "bfloat16", 2048, {}),
        ("full", "bfloat16", 4096, {}),
        ("full", "bfloat16", 8192, {}),
        ("full", "float32", 4096, {}),
        ("full", "bfloat16", 8192, {"train.gradient_checkpointing": "true"}),
        ("full", "bfloat16", 4096, {"train.layout": "padded"}),
        ("lora", "bfloat16", 2048, {}),
        ("lora", "bfloat16", 8192, {}),
        ("lora", "float32", 4096, {}),
    ]
]


def measure(settings: dict[str, str | int], steps: int) -> dict[str, str | int | float]:
    """Train with these settings and return what was predicted and what was held."""
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "settings.yaml", Path(folder) / "run"
        file.write_text(
            f"data: {{path: {DATA}, input: text, output: [kind, fields]}}\nthreads: 1\ntrain: {{steps: {steps}, validate_every: {steps}}}\n"
        )
        changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        subprocess.run(
            [sys.executable, "-m", "luthier.cli.main", "train", file, *changes, "--out", run],
            env=child_environment(1), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        predicted = json.loads((run / "plan.json").read_text())["memory_bytes"]
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        measured = next(event["memory_bytes"] for event in events if event["event"] == "trained")
        held = [json.loads(line)["memory_bytes"] >> 20 for line in (run / "timings.jsonl").read_text().splitlines()]
    return {
        **settings, "predicted_mib": predicted >> 20, "measured_mib": measured >> 20,
        "predicted_over_measured": round(predicted / measured, 3), "first_step_mib": held[0], "last_step_mib": held[-1],
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--only", type=int, nargs="*", help="Numbers of lines of the grid, from 0.")
    arguments = parser.parse_args()
    chosen = [GRID[number] for number in arguments.only or range(len(GRID))]
    results = []
    for settings in chosen:
        results.append(measure(settings, arguments.steps))
        print(json.dumps(results[-1]), file=sys.stderr)
    print(json.dumps({"bench": "memory", **machine(), "steps": arguments.steps, "results": results}, indent=1))
