"""Whole verdicts on six tasks with the starter, every arm that needs no endpoint beside the tuned model.

    python bench/verdicts.py                      all that is missing; goes on where it was stopped
    python bench/verdicts.py --only style gsm8k   these tasks
    python bench/verdicts.py --page               only docs/experiments/verdicts.md, from the runs that are there

Needs the task data in DATA (default ../shared/data/tasks). The runs lie in build/verdicts, the result is
bench/results/verdicts.json. Where a set is cut down, so that the machine is busy for minutes and not hours,
the first rows of each label, or of the file, are taken; what was taken stands in the page.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pages import with_block
from timing import machine
from verdicts_page import section

from luthier.core.rundir import write_json
from luthier.core.types import JsonObject
from luthier.verdict.figures import key_metrics

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("DATA", ROOT / "../shared/data/tasks"))
OUT = ROOT / "build/verdicts"
RESULT = ROOT / "bench/results/verdicts.json"
PAGE = ROOT / "docs/experiments/verdicts.md"
ARMS = "compare.arms=[classical, zero_shot, prompt, few_shot, retrieval, tuned, tuned_retrieval]"

# What is kept of each verdict; slices, confusions and examples are in the run's own report.
KEPT = (
    "model", "data", "grader", "lower_is_better", "arms", "differences", "outcome", "because", "reasons", "next", "constraint", "measured",
    "cross_fit", "looks",
)  # fmt: skip

Choice = Callable[[list[JsonObject]], list[JsonObject]]


def first(count: int) -> Choice:
    """Take the first rows."""
    return lambda rows: rows[:count]


def of_each(key: str, count: int) -> Choice:
    """Take the first rows of each value of a key."""

    def chosen(rows: list[JsonObject]) -> list[JsonObject]:
        seen: Counter[str] = Counter()
        out = []
        for row in rows:
            seen[str(row[key])] += 1
            if seen[str(row[key])] <= count:
                out.append(row)
        return out

    return chosen


def of_one(key: str, value: str) -> Choice:
    """Take the rows with one value of a key."""
    return lambda rows: [row for row in rows if row[key] == value]


@dataclass(frozen=True)
class Task:
    """A set of rows and how it is run."""

    train: str
    arguments: str
    test: str | None = None
    chosen: Choice | None = None
    chosen_test: Choice | None = None


TASKS = {
    "snips": Task(
        "snips/train.jsonl",
        "--input text --output intent,slots --constrain spans --set train.swaps=2 --set train.epochs=2.5 --set train.lr=0.0015 --set train.weight_decay=0.1 --set train.weights=last",
        "snips/test.jsonl",
    ),
    "banking77": Task(
        "banking77/train.jsonl",
        "--input text --output label --set train.epochs=6",
        "banking77/test.jsonl",
        chosen_test=of_each("label", 10),
    ),
    "clinc150": Task(
        "clinc150/train.jsonl",
        "--input text --output label --set train.epochs=20",
        "clinc150/test.jsonl",
        of_each("label", 10),
        of_each("label", 5),
    ),
    "rnnlg": Task(
        "rnnlg/train.jsonl",
        "--input mr --output text --set train.epochs=6",
        "rnnlg/test.jsonl",
        of_one("domain", "restaurant"),
        lambda rows: of_one("domain", "restaurant")(rows)[:400],
    ),
    "gsm8k": Task(
        "gsm8k/train.jsonl",
        "--input question --output answer --set compare.grader=number --set train.epochs=3",
        "gsm8k/test.jsonl",
        first(500),
        first(100),
    ),
    "style": Task(
        "style/queries.jsonl",
        "--input query --output response --group scenario --set train.epochs=10",
        chosen=of_one("persona", "humorous"),
    ),
}


def main() -> None:
    """Run what is missing, and write the result and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if not given.page:
        for name in given.only:
            run(name, TASKS[name])
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine(), "tasks": {}}
    for name in TASKS:
        verdict = OUT / name / "verdict.json"
        if verdict.exists():
            said = json.loads(verdict.read_text())
            kept = {key: said[key] for key in KEPT if key in said}
            for arm in kept["arms"].values():
                arm["metrics"] = key_metrics(arm["metrics"])
            found["tasks"][name] = {"command": shown(name, TASKS[name]), **kept}
    write_json(RESULT, found)
    page = PAGE.read_text(encoding="utf-8")
    for name in TASKS:
        page = with_block(page, name, section(found["tasks"].get(name)))
    PAGE.write_text(page, encoding="utf-8")


def run(name: str, task: Task) -> None:
    """Run one task through the command, or go on with it."""
    out = OUT / name
    if (out / "verdict.json").exists():
        return
    command = [str(Path(sys.executable).with_name("luthier"))]
    if (out / "config.yaml").exists():
        command += ["resume", str(out)]
    else:
        command += ["run", str(rows(name, "train", task.train, task.chosen)), *task.arguments.split(), "--set", ARMS]
        command += ["--test", str(rows(name, "test", task.test, task.chosen_test))] if task.test else []
        command += ["--out", str(out)]
    print(" ".join(command), file=sys.stderr)
    subprocess.run(command, check=True, env={**os.environ, "OMP_WAIT_POLICY": "passive"})


def rows(name: str, part: str, file: str, chosen: Choice | None) -> Path:
    """Return the file of a part, cut down where the task says so."""
    if chosen is None:
        return DATA / file
    path = OUT / f"{name}-{part}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = chosen([json.loads(line) for line in (DATA / file).read_text(encoding="utf-8").split("\n") if line])
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in taken), encoding="utf-8")
    return path


def shown(name: str, task: Task) -> str:
    """Return the command as a reader would call it."""
    files = [f"{name}/train.jsonl" if task.chosen is None else f"{name}-train.jsonl"]
    if task.test:
        files += ["--test", f"{name}/test.jsonl" if task.chosen_test is None else f"{name}-test.jsonl"]
    return " ".join(["luthier run", *files, task.arguments, "--set", f'"{ARMS}"'])


if __name__ == "__main__":
    main()
