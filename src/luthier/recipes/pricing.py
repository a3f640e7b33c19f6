"""What every arm of a run costs, and when the training has earned itself back."""

import time
from collections.abc import Sequence
from pathlib import Path

from luthier.core.journal import entries
from luthier.core.types import JsonObject
from luthier.recipes.answerers import Answerer
from luthier.recipes.job import Job
from luthier.verdict.asking import Candidate
from luthier.verdict.conclude import best_rival
from luthier.verdict.cost import cost_of_arm, earned_back, read_prices
from luthier.verdict.figures import Scale, objects
from luthier.verdict.questions import Question
from luthier.verdict.rules import TRAINED


def priced(job: Job, arms: JsonObject, scale: Scale, rows: int) -> JsonObject | None:
    """Add `cost` to every arm, which answered `rows` rows; return what the training earns back against the best other arm, None without prices or without two arms."""
    path = job.settings.compare.price
    prices = None if path is None else read_prices(Path(path))
    timed = _timed(job)
    for name, arm in arms.items():
        price = None if prices is None else prices.of_arm(name)
        objects(arm)["cost"] = cost_of_arm(objects(arm), rows, timed.get(name, ()), price)
    tuned = next((name for name in arms if name in TRAINED), None)
    rival = best_rival(arms, scale)
    if prices is None or tuned is None or rival is None:
        return None
    return earned_back(arms, tuned, rival, prices, float(str(job.training["seconds"])))


def time_alone(job: Job, name: str, answerer: Answerer, candidate: Candidate, asked: Sequence[Question]) -> None:
    """Ask some questions once more, one by one, and enter the seconds of each: what one user waits for an answer."""
    count = min(job.settings.compare.latency_rows, len(asked))
    if not count:
        return
    seconds: list[float] = []
    for place in range(count):
        start = time.monotonic()
        for _ in answerer.lines(candidate, [asked[place * len(asked) // count]], frozenset()):
            pass
        seconds.append(round(time.monotonic() - start, 4))
    job.run.event("arm_timed", arm=name, seconds=[*seconds])


def _timed(job: Job) -> dict[str, list[float]]:
    """Return the seconds of single requests by arm, those measured last."""
    found: dict[str, list[float]] = {}
    for entry in entries(job.run.events):
        if entry["event"] == "arm_timed" and isinstance(entry["seconds"], list):
            found[str(entry["arm"])] = [float(str(one)) for one in entry["seconds"]]
    return found
