"""A/A by retraining: the demonstration's recipe under several seeds is held against itself, and no difference may be claimed.

    pytest tests/nightly/two_seeds.py -s

`AA_SEEDS=2` trains two seeds only. `tests/unit/test_seeds.py` does the same 400 times with a model that trains in milliseconds.
"""

import os
from itertools import combinations
from pathlib import Path

import numpy as np

import luthier
from luthier.core.rundir import RunDir
from luthier.recipes.against import against
from luthier.recipes.differences import clusters_in
from luthier.verdict.answers import answer_rows, read_answers
from luthier.verdict.seeds import over_seeds
from luthier.verdict.stats import Measure

DEMO = Path(__file__).parents[2] / "examples/demo/tickets.jsonl"
SEEDS = int(os.environ.get("AA_SEEDS", "4"))
HELD_OUT = 200
SETTINGS = {
    "train.epochs": 1, "train.lr": 0.001, "compare.arms": ["classical", "tuned"], "compare.folds": 0, "compare.train_rows": 0,
    "compare.latency_rows": 0, "compare.grader": "json_fields", "data.general": "none", "model.dtype": "float32",
}  # fmt: skip


def test_one_recipe_under_other_seeds_is_not_called_better_than_itself(tmp_path: Path) -> None:
    lines = DEMO.read_text(encoding="utf-8").splitlines(keepends=True)
    parts = {"train": lines[:-HELD_OUT], "test": lines[-HELD_OUT:]}
    for name, of_part in parts.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(of_part), encoding="utf-8")
    runs: list[Path] = []
    for seed in range(SEEDS):
        made = luthier.run(
            tmp_path / "train.jsonl", test=tmp_path / "test.jsonl", input="text", output=("kind", "fields"), out=tmp_path / str(seed),
            settings={**SETTINGS, "seed": seed}, quiet=True,
        )  # fmt: skip
        runs.append(made.path)
    claimed = []
    for a, b in combinations(runs, 2):
        found = next(one for one in against(a, [b], None)["differences"] if one["arm"] == "tuned")
        print(f"seed {a.name} less seed {b.name}: {found['value']:+.4f}, {found['interval']}: {found['outcome']}")
        claimed.append(found["outcome"] in ("better", "worse"))
    assert not claimed[0], "the first two seeds"
    answers = [answer_rows(read_answers(RunDir(run).arm_answers("tuned"))) for run in runs]
    scores = [{row.id: row.score for row in of_run} for of_run in answers]
    ids = list(scores[0])
    score_KR = np.array([[of_run[id] for id in ids] for of_run in scores])
    half = SEEDS // 2
    if half > 1:
        gains = score_KR[:half] - score_KR[half : 2 * half]
        recipe = over_seeds(gains, clusters_in(RunDir(runs[0]), ids), Measure(margin=0.01))
        print(f"{half} seeds less {half} others: {recipe.value:+.4f}, {recipe.interval}: {recipe.outcome}")
        assert recipe.outcome not in ("better", "worse")
