"""What is foretold of a training against what it takes: seconds, memory, and the time left once a tenth of it is done.

    python bench/plan.py [--rounds 5] [--only NAME ...] [--threads N] [--json FILE] [--page FILE]

Each case is planned by `luthier plan` in a process of its own, and trained in another by the stages of a run, which
plans once more, with the weights at hand. Cases take turns, and what counts is the median of the rounds. None of them is among those of bench/memory.py,
to which the forecast's figures were fitted; how the heap grows in the first steps comes from one run of the starter's full tuning as a tree. With `--json`, a bench that was ended goes on where it stood; `--page` writes the
block of docs/performance.md anew.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pages import table, with_block
from sft_cases import PROMPT, SHAPES
from sft_tasks import STARTER
from timing import machine
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from luthier.core.hardware import usable_cores
from luthier.core.threads import child_environment

HERE = Path(__file__).parent
TASKS = HERE.parents[1] / "shared" / "data" / "tasks"
BLOCK = "plan against runs"
PAGE = HERE.parent / "docs" / "performance.md"
RESULT = HERE / "results" / "plan.json"
UNMEASURED = "Not yet measured on a quiet machine."
# The farthest that the median may lie from what was measured.
AIMS = {"memory": 0.15, "time": 0.20}
_GIB = 2**30


@dataclass(frozen=True)
class Case:
    """One training: `rows` of SNIPS, behind a system prompt where they are to share, or of GSM8K; 16 rows a step."""

    name: str
    model: str
    method: str
    task: str
    prompted: bool
    rows: int
    steps: int


CASES = (
    Case("the starter, LoRA, packed (GSM8K)", "starter", "lora", "gsm8k", False, 400, 20),
    Case("the starter, LoRA, tree (SNIPS)", "starter", "lora", "snips", True, 600, 24),
    Case("the starter, full, packed (SNIPS)", "starter", "full", "snips", False, 600, 24),
    Case("the starter, full, tree (SNIPS)", "starter", "full", "snips", True, 600, 24),
    Case("Llama shape, 135M, LoRA, tree (SNIPS)", "llama-135m", "lora", "snips", True, 200, 10),
    Case("Llama shape, 135M, full, packed (SNIPS)", "llama-135m", "full", "snips", False, 90, 4),
)


class Bench:
    """Makes what the cases need, and lets them run."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._threads = folder, threads

    def measure(self, case: Case) -> dict[str, float]:
        """Plan and train a case once; return what was foretold and what was measured."""
        settings = self._settings(case)
        flags = [word for key, value in _flat(settings) for word in ("--set", f"{key}={json.dumps(value)}")]
        data, model = settings["data"]["path"], settings["model"]["name"]
        told = self._called("-m", "luthier.cli.main", "plan", data, "--model", model, "--json", *flags)
        plan = json.loads(told)["machines"][0]
        file = self._folder / "settings.json"  # JSON is YAML
        file.write_text(json.dumps(settings), encoding="utf-8")
        with tempfile.TemporaryDirectory(dir=self._folder) as made:
            run = Path(made) / "run"
            self._called(str(HERE / "plan_training.py"), str(file), str(run))
            own = json.loads((run / "plan.json").read_text(encoding="utf-8"))
            said = {entry["event"]: entry for entry in _lines(run / "events.jsonl")}
            steps = [entry["seconds"] for entry in _lines(run / "timings.jsonl")]
        trained, early = said["trained"], said["foretold"]
        return {
            "plan_seconds": plan["seconds"], "run_seconds": own["seconds"], "seconds": trained["seconds"],
            "plan_bytes": plan["memory_bytes"], "run_bytes": own["memory_bytes"], "bytes": trained["memory_bytes"],
            "left_foretold": early["seconds_left"], "left": round(trained["seconds"] - sum(steps[: early["step"]]), 2),
        }  # fmt: skip

    def _settings(self, case: Case) -> dict[str, dict[str, Any]]:
        data = {"path": str(self._rows(case))}
        train = {"method": case.method, "steps": case.steps, "batch_rows": 16}
        return {"data": data, "model": {"name": self._model(case.model)}, "train": train, "compare": {"folds": 0}}

    def _rows(self, case: Case) -> Path:
        path = self._folder / f"{case.task}-{case.rows}-{case.prompted}.jsonl"
        if not path.exists():
            with (TASKS / case.task / "train.jsonl").open(encoding="utf-8") as lines:
                rows = [json.loads(line) for line, _ in zip(lines, range(case.rows), strict=False)]
            path.write_text("".join(json.dumps(_chat(row, case)) + "\n" for row in rows), encoding="utf-8")
        return path

    def _model(self, name: str) -> str:
        folder = self._folder / name
        if name == "starter":
            return str(STARTER)
        if not folder.exists():
            torch.manual_seed(0)
            shape = dict(SHAPES[name])
            config = AutoConfig.for_model(str(shape.pop("model_type")), **shape)
            AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(folder)
            AutoTokenizer.from_pretrained(STARTER).save_pretrained(folder)
        return str(folder)

    def _called(self, *words: str) -> str:
        command = [sys.executable, *words]
        environment = child_environment(self._threads)
        del environment["OMP_WAIT_POLICY"]  # it has the machine to itself, and waits as it does for its users
        return subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout


def _chat(row: dict[str, Any], case: Case) -> dict[str, Any]:
    asked, wanted = (
        (row["question"], row["answer"])
        if case.task == "gsm8k"
        else (row["text"], json.dumps({key: row[key] for key in ("intent", "slots")}, ensure_ascii=False))
    )
    system = [{"role": "system", "content": PROMPT[: len(PROMPT) // 2]}] if case.prompted else []
    return {
        "messages": [*system, {"role": "user", "content": asked}, {"role": "assistant", "content": wanted}],
    }


def _flat(settings: dict[str, dict[str, Any]]) -> list[tuple[str, Any]]:
    given = [(f"{part}.{key}", value) for part, values in settings.items() for key, value in values.items()]
    return [(key, value) for key, value in given if key not in ("data.path", "model.name")]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of every case the medians of its rounds, and of each forecast the median of what was measured over it."""
    out = []
    for name in dict.fromkeys(turn["case"] for turn in turns):
        own = [turn["figures"] for turn in turns if turn["case"] == name]
        medians = {key: statistics.median(one[key] for one in own) for key in own[0]}
        ratios = {
            f"{key}_ratio": round(statistics.median(one[measured] / one[key] for one in own), 3)
            for key, measured in _PAIRS.items()
        }
        out.append({"case": name, "rounds": len(own), **medians, **ratios})
    return out


_PAIRS = {
    "plan_seconds": "seconds", "run_seconds": "seconds", "plan_bytes": "bytes", "run_bytes": "bytes", "left_foretold": "left",
}  # fmt: skip


def block(found: dict[str, Any]) -> str:
    """Return the block of the page: the machine, a line for each case, and which aims are missed."""
    rows = [["training", "seconds, measured", "of what `luthier plan` foretold", "of what the run foretold", "left after a tenth, of what was shown",
             "memory, measured", "of what `luthier plan` foretold", "of what the run foretold"]]  # fmt: skip
    for one in found["results"]:
        rows.append([
            one["case"], f"{one['seconds']:.1f}", *(f"{one[f'{key}_ratio']:.2f}" for key in ("plan_seconds", "run_seconds", "left_foretold")),
            f"{one['bytes'] / _GIB:.2f} GiB", *(f"{one[f'{key}_ratio']:.2f}" for key in ("plan_bytes", "run_bytes")),
        ])  # fmt: skip
    rounds = min(one["rounds"] for one in found["results"])
    return (
        f"{found['processor']}, {found['threads']} of {found['cores']} cores; medians of {rounds} rounds.\n\n{table(rows)}\n\n"
        f"Aims: memory within 15 %, time within 20 %. {missed(found['results'])}"
    )


def missed(results: Sequence[dict[str, Any]]) -> str:
    """Say which forecasts lie farther off than they should."""
    found = [
        f"{one['case']}: {_WORDS[key]} {one[f'{key}_ratio']:.2f}"
        for one in results
        for key in _PAIRS
        if abs(one[f"{key}_ratio"] - 1) > AIMS["memory" if "bytes" in key else "time"]
    ]
    return f"**Missed**: {'; '.join(found)}." if found else "All are met."


_WORDS = {
    "plan_seconds": "the plan's time", "run_seconds": "the run's time", "plan_bytes": "the plan's memory", "run_bytes": "the run's memory",
    "left_foretold": "the time left",
}  # fmt: skip


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[""], metavar="WORDS", help="Cases whose names hold these words.")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    report = {"bench": "plan", **machine(), "threads": given.threads}
    turns: list[dict[str, Any]] = []
    if given.json and given.json.exists():
        turns = json.loads(given.json.read_text(encoding="utf-8"))["turns"]
        report |= {"results": summary(turns), "turns": turns}
    cases = [case for case in CASES if any(words in case.name for words in given.only)]
    with tempfile.TemporaryDirectory() as made:
        bench = Bench(Path(made), given.threads)
        for number in range(given.rounds):
            for case in cases:
                if sum(turn["case"] == case.name for turn in turns) > number:
                    continue
                turns.append({"case": case.name, "figures": bench.measure(case)})
                print(f"{case.name}: {summary(turns[-1:])[0]}", file=sys.stderr, flush=True)
                report |= {"results": summary(turns), "turns": turns}
                if given.json:
                    given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    if given.page:
        given.page.write_text(
            with_block(given.page.read_text(encoding="utf-8"), BLOCK, block(report)), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
