"""Which test rows belong together, from the ledger of the run."""

import numpy as np

from luthier.data.ledger import read_ledger
from luthier.recipes.job import Job


def clusters_of(job: Job, ids: list[str]) -> np.ndarray:
    """The cluster number of each row, from the ledger."""
    table = read_ledger(job.run.ledger).select(["id", "cluster"]).to_pydict()
    cluster = dict(zip(table["id"], table["cluster"], strict=True))
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(cluster[row], len(numbers)) for row in ids])
