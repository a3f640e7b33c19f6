"""The same training under other seeds, from one command: what the recipe gains beside what these weights gain.

seeds/<seed>/   a run of each further seed, see nested.py; its parts are those of the run around
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from luthier.core.errors import ProofFailed, SettingsError
from luthier.core.rundir import RunDir
from luthier.core.types import PARTS, JsonObject
from luthier.recipes.job import Job
from luthier.recipes.nested import answered, nested, planned, trained
from luthier.recipes.opening import unsealed
from luthier.verdict.conclude import best_rival
from luthier.verdict.figures import scale_of
from luthier.verdict.rules import TRAINED
from luthier.verdict.seeds import over_seeds
from luthier.verdict.stats import Sample


def repeated(job: Job, arms: JsonObject, scores: Mapping[str, np.ndarray], sample: Sample) -> JsonObject | None:
    """Train under `compare.seeds` seeds, this run's among them, and judge the gain of the trained arm over the best other one.

    Returns None where one seed is all. The arms that train nothing answer alike under every seed, so only the trained one is asked.
    """
    count = job.settings.compare.seeds
    if count == 1:
        return None
    arm = next((name for name in TRAINED if name in arms), None)
    rival = best_rival(arms, scale_of(job.grader_name, lower_is_better=False))
    if arm is None or rival is None:
        raise SettingsError(
            f"compare.seeds is {count}, and compare.arms holds no trained arm beside another one to compare it with."
        )
    seeds = [job.settings.seed + place for place in range(count)]
    gains = [scores[arm] - scores[rival]]
    for seed in seeds[1:]:
        job.voice.say(f"seed {seed}")
        gains.append(_scores(job, seed, arm) - scores[rival])
    judged = over_seeds(np.stack(gains), sample.clusters_R, sample.measure).as_entry()
    return {"arm": arm, "against": rival, "seeds": [*seeds], **judged}


def _scores(job: Job, seed: int, arm: str) -> np.ndarray:
    """Return the score of each test row by the model of another seed."""
    values: JsonObject = {"seed": seed, "compare.latency_rows": 0, "compare.arms": [arm]}
    inner = nested(job, Path("seeds") / str(seed), values, lambda run: _copy_parts(job.run, run))
    with inner.run.held():
        planned(inner)
        trained(inner)
        if broken := unsealed(inner, inner.rows("test")):
            raise ProofFailed(f"in {inner.run.path}, {broken}")
        rows = answered(inner, [arm])[arm]
    return np.array([row.score for row in rows])


def _copy_parts(around: RunDir, run: RunDir) -> None:
    for part in PARTS:
        shutil.copyfile(around.part(part), run.part(part))
    shutil.copyfile(around.assignment, run.assignment)
    shutil.copyfile(around.findings, run.findings)
