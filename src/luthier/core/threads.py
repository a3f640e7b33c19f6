"""Thread budgets of child processes.

Two torch processes on the same cores wait for each other's spinning OpenMP threads: a step of
some hundred small operations goes from 0.5 to 12 ms an operation. Every child gets a budget and
the passive wait policy from its parent, in the environment that it starts with.
"""

import os
from collections.abc import Mapping


def child_environment(num_threads: int, parent: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a child process that may use `num_threads` cores."""
    environment = dict(os.environ if parent is None else parent)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        environment[variable] = str(num_threads)
    environment["OMP_WAIT_POLICY"] = "passive"
    environment["TOKENIZERS_PARALLELISM"] = "false"
    return environment
