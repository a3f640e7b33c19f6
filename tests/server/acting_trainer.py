"""Stands in for the trainer where a test needs many of them: writes the files of a run, a step at a time, and no weights.

    python -m acting_trainer train settings.yaml --out run | resume run

Every figure is a function of the step, as in a real training, so that a killed and resumed run must end in the same bytes.
"""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

import yaml

from luthier.core.journal import Journal, cut
from luthier.core.rundir import RunDir, create, write_atomically, write_json

STEPS, PER_EPOCH, SECONDS = 20, 5, 0.05


def main() -> None:
    verb, first, *rest = sys.argv[1:]
    if verb == "train":
        write_atomically(create(Path(rest[1]), "run").config, Path(first).read_bytes())
    run = RunDir(Path("run"))
    with run.held():
        if not run.done("plan"):  # one that was killed early plans when it goes on
            plan(run)
        walk(run)


def plan(run: RunDir) -> None:
    seed = yaml.safe_load(run.config.read_text())["seed"]
    write_json(run.plan, {"steps": STEPS, "steps_per_epoch": PER_EPOCH, "seconds": 1.0, "seed": seed})
    write_json(run.certificate, {"rows": {"train": 10}})
    run.mark_done("plan")


def walk(run: RunDir) -> None:
    for torn in run.checkpoints.glob(".tmp-*"):
        shutil.rmtree(torn)
    done = max([int(path.name) for path in run.checkpoints.glob("[0-9]*")], default=0)
    cut(run.metrics, sum(len(line(step)) + 1 for step in range(1, done + 1)))
    with Journal(run.metrics) as metrics:
        for step in range(done + 1, STEPS + 1):
            time.sleep(SECONDS)
            metrics.write(figures(step))
            if step % PER_EPOCH == 0:
                save(run, step)
    run.event("trained", steps=STEPS, best_step=STEPS, tokens=STEPS * 7)
    run.package.mkdir(exist_ok=True)
    write_atomically(run.package / "model.safetensors", weights(STEPS))


def figures(step: int) -> dict:
    return {"step": step, "loss": (1 / step).hex(), "tokens": 7, "trained": 3, "lr": (0.1).hex(), "norm": (1.0).hex()}


def line(step: int) -> str:

    return json.dumps(figures(step), ensure_ascii=False)


def weights(step: int) -> bytes:
    return hashlib.sha256(str(step).encode()).digest() * 100


def save(run: RunDir, step: int) -> None:
    beside = run.checkpoints / f".tmp-{step:06d}"
    beside.mkdir()
    (beside / "tensors.safetensors").write_bytes(weights(step))
    (beside / "MANIFEST.json").write_text("{}")
    beside.rename(run.checkpoints / f"{step:06d}")


if __name__ == "__main__":
    main()
