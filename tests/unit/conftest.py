"""What several files of unit tests start from."""

import pytest
from tiny_training import new_run, resolved, train


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A tiny training that nothing disturbs."""
    run = new_run(tmp_path_factory.mktemp("runs") / "straight")
    train(run.path, resolved())
    return run
