"""The official client of November 2025, in an environment of its own, in the main flow; newer and others run nightly."""

import sys
from importlib.resources import files
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from building import HERE, python_with, walked
from serving import running

OLDER = "openai==2.8.1"
STEPS = 13


@pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)
@pytest.mark.nightly
def test_a_client_that_is_a_year_old_walks_the_main_flow(tmp_path: Path):
    python = python_with(OLDER)
    with running(tmp_path / "data", {"job": {"model": {"dtype": "float32"}}}) as served:
        steps = walked([str(python), str(HERE / "main_flow.py")], served.url, served.key)
    assert len(steps) == STEPS, steps
