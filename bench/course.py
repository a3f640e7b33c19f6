"""Whether the course of the held-out loss depends on the layout by more than on the seed.

    python bench/course.py FOLDER

FOLDER holds runs named `packed-SEED` and `tree-SEED` (bench/course.sh makes them). Printed is, for every step with a
validation, the mean loss of each layout over the seeds; of the differences between the layouts, which have rows and
split in common where they have the seed in common, the mean, the standard deviation, and the first through its
standard error (Student's t); and the standard deviation of the packed layout's loss over the seeds.
"""

import json
import statistics
import sys
from pathlib import Path

Course = dict[int, float]


def course(run: Path) -> Course:
    """Return the held-out loss by step."""
    with run.joinpath("metrics.jsonl").open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return {entry["step"]: float.fromhex(entry["validation_loss"]) for entry in found if "validation_loss" in entry}


def compared(packed: list[Course], tree: list[Course]) -> list[dict[str, float]]:
    """Compare the courses step by step, seed by seed."""
    out = []
    for step in sorted(packed[0]):
        differences = [there[step] - here[step] for here, there in zip(packed, tree, strict=True)]
        mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
        means = (statistics.fmean(one[step] for one in courses) for courses in (packed, tree))
        between_seeds = statistics.stdev(one[step] for one in packed)
        out.append(
            {"step": step, **dict(zip(("packed", "tree"), means)), "difference": mean, "deviation": deviation}
            | {"t": mean / (deviation / len(differences) ** 0.5), "between_seeds": between_seeds}
        )
    return [{key: round(value, 4) for key, value in one.items()} for one in out]


def main(folder: Path) -> None:
    """Print JSON."""
    packed, tree = ([course(run) for run in sorted(folder.glob(f"{layout}-*[0-9]"))] for layout in ("packed", "tree"))
    print(json.dumps({"bench": "course", "seeds": len(packed), "steps": compared(packed, tree)}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
