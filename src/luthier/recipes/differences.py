"""Which test rows belong together, from the ledger of the run."""

import numpy as np

from luthier.core.rundir import RunDir
from luthier.data.ledger import read_ledger
from luthier.recipes.job import Job


def clusters_of(job: Job, ids: list[str]) -> np.ndarray:
    """The cluster number of each row, from the ledger."""
    return clusters_in(job.run, ids)


def clusters_in(run: RunDir, ids: list[str]) -> np.ndarray:
    """The same, of a run folder that is only read."""
    table = read_ledger(run.ledger).select(["id", "cluster"]).to_pydict()
    cluster = dict(zip(table["id"], table["cluster"], strict=True))
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(cluster[row], len(numbers)) for row in ids])
