"""The main flow with every client that people have, run by name: pytest tests/nightly/other_clients.py

The newest `openai` of PyPI, one that is a year old, the one of npm, and LiteLLM, each installed under build/clients when
it is not there yet. What cannot be installed is skipped with a word.
"""

import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "clients"))
sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from building import HERE, node_with, python_with, walked
from serving import Served, running
from test_older_client import OLDER, STEPS

pytestmark = pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(tmp_path_factory.mktemp("clients") / "data", {"job": {"model": {"dtype": "float32"}}}) as server:
        yield server


@pytest.mark.parametrize("package", ["openai", OLDER])
def test_the_python_client(served: Served, package: str):
    steps = walked([str(python_with(package)), str(HERE / "main_flow.py")], served.url, served.key)
    assert len(steps) == STEPS, steps


def test_the_node_client(served: Served):
    place = node_with("openai")
    steps = walked(["node", str(place / "main_flow.mjs")], served.url, served.key)
    assert len(steps) == 12, steps


def test_litellm(served: Served):
    steps = walked([str(python_with("litellm")), str(HERE / "litellm_flow.py")], served.url, served.key)
    assert len(steps) == 7, steps
