"""Seconds of each untuned arm over whole test files: 700 rows of SNIPS, 3,080 of Banking77, with a small model.

    python bench/arms.py                                        both tasks, all their test rows
    python bench/arms.py --only snips --rows 60 --arms few_shot  some rows, evenly drawn from the test file

Nothing is trained. The score and the share of valid answers (a label of the training rows, a JSON object) stand beside each way of
decoding, free and held to a form, so the bench also tells what holding an arm's answers brings it. What an arm needs to choose between its ways of asking, on validation rows, is counted apart. Beside
the seconds by the clock stand those of the processor, which mean something on a machine that does other work too. Needs
the task data in DATA (default ../shared/data/tasks); the runs lie in build/arms, the result is bench/results/arms.json.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timing import machine

from luthier.config.load import load
from luthier.core.rundir import write_json
from luthier.core.types import JsonObject
from luthier.data.answers_kind import as_json_object
from luthier.recipes.answer import Answering
from luthier.recipes.choosing import read_choices
from luthier.recipes.compare import resolve_grading, sealed_questions
from luthier.recipes.decode import label_texts
from luthier.recipes.job import Job
from luthier.recipes.plan import resolve_type, write_ledger
from luthier.recipes.run import prepared
from luthier.recipes.voice import Voice
from luthier.verdict.answers import answer_rows, read_answers

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("DATA", ROOT / "../shared/data/tasks"))
OUT = ROOT / "build/arms"
RESULT = ROOT / "bench/results/arms.json"
ARMS = ("classical", "zero_shot", "prompt", "few_shot", "retrieval")
# How each task is run, and the ways of decoding that are measured.
TASKS = {
    "snips": ({"data.input": "text", "data.output": ["intent", "slots"]}, ("free", "spans")),
    "banking77": ({"data.input": "text", "data.output": ["label"]}, ("free", "labels", "score")),
}
DECODING: dict[str, JsonObject] = {
    "free": {},
    "labels": {"generate.constrain": "labels"},
    "spans": {"generate.constrain": "spans"},
    "score": {"generate.decode": "score"},
}


def main() -> None:
    """Measure what is asked for, print it, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--decoding", nargs="+", choices=DECODING, help="those of the task when absent")
    parser.add_argument("--rows", type=int, help="how many test rows; all when absent")
    parser.add_argument("--choosing", type=int, default=400, help="compare.choosing_calls")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--json", type=Path, default=RESULT)
    given = parser.parse_args()
    tasks: dict[str, JsonObject] = {}
    command = " ".join(["python bench/arms.py", *sys.argv[1:]])
    found = {"machine": machine(), "command": command, "tasks": tasks}
    for name in given.only:
        settings, decodings = TASKS[name]
        ways = tasks[name] = {}
        for decoding in given.decoding or decodings:
            values = {
                **settings,
                **DECODING[decoding],
                "compare.choosing_calls": given.choosing,
                "model.name": given.model,
            }
            ways[decoding] = measured(name, decoding, values, given.arms, given.rows)
            write_json(given.json, found)


def measured(task: str, decoding: str, values: JsonObject, arms: list[str], rows: int | None) -> JsonObject:
    """Return the seconds of each arm over the test rows of a task."""
    job = begun(OUT / f"{task}-{decoding}", task, values, arms)
    asked = sealed_questions(job)
    if rows is not None and rows < len(asked):
        asked = [asked[place * len(asked) // rows] for place in range(rows)]
    answering = Answering(job, resolve_grading(job, asked))
    valid = validity(task, job)
    result: JsonObject = {}
    for arm in arms:
        choosing = took(partial(answering.way_of_asking, arm))
        answers = took(partial(answering.arm, arm, asked))
        graded = answer_rows(read_answers(job.run.arm_answers(arm)))
        result[arm] = {
            "rows": len(asked), "score": round(sum(row.score for row in graded) / len(graded), 4), "way": chosen(job, arm),
            "valid": round(sum(valid(row.completion) for row in graded) / len(graded), 4),
            "tokens_in": sum(row.tokens_in for row in graded), "tokens_out": sum(row.tokens_out for row in graded),
            "answering": answers, "choosing": choosing,
        }  # fmt: skip
        print(f"{task:10} {decoding:7} {arm:10} {json.dumps(result[arm])}", flush=True)
    return result


def begun(out: Path, task: str, values: JsonObject, arms: list[str]) -> Job:
    """Read, split and check a task into a new run folder, with the test file as its test."""
    shutil.rmtree(out, ignore_errors=True)
    test = str(DATA / task / "test.jsonl")
    fixed: JsonObject = {
        "data.test": test, "data.general": "none", "compare.arms": [*arms], "compare.latency_rows": 0, "compare.folds": 0,
    }  # fmt: skip
    job = prepared(str(DATA / task / "train.jsonl"), load((), (), fixed | values), out, Voice(quiet=True))
    resolve_type(job)
    write_ledger(job)
    return job


def took(work: Callable[[], object]) -> JsonObject:
    """Return the seconds of a piece of work, by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": round(time.perf_counter() - clock, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
    }


def validity(task: str, job: Job) -> Callable[[str], bool]:
    """Return what tells whether an answer has the form of the training answers."""
    if task == "snips":
        return lambda text: as_json_object(text) is not None
    labels = frozenset(label_texts(job))
    return lambda text: text in labels


def chosen(job: Job, arm: str) -> str | None:
    """Return the way of asking that an arm chose."""
    entry = read_choices(job.run).get(arm)
    return str(entry["chosen"]) if isinstance(entry, dict) else None


if __name__ == "__main__":
    main()
