"""Every flow of docs/openai-flows.md with a client that is a year old, run by name: pytest tests/nightly/older_flows.py

The older package and what it needs are laid before the test environment's own, under build/clients when they are not there
yet; the tests are those that the newest client walks.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "clients"))

from building import laid_before
from test_older_client import OLDER

ROOT = Path(__file__).parents[2]
_SECONDS = 3600


def test_an_older_client_walks_every_flow():
    place = laid_before(OLDER)
    page = (ROOT / "docs" / "openai-flows.md").read_text(encoding="utf-8")
    named = ["::".join(pair) for pair in re.findall(r"`(tests/[\w/.]+)::(\w+)`", page)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])}
    version = subprocess.run(
        [sys.executable, "-c", "import openai; print(openai.__version__)"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert version.stdout.strip() == OLDER.partition("==")[2], version.stderr
    command = [sys.executable, "-m", "pytest", "-m", "nightly or not nightly", "-p", "no:cacheprovider", *named]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_SECONDS)
    if done.returncode:
        pytest.fail(done.stdout[-6000:] + done.stderr[-2000:])
    assert len(named) >= 30
    print(done.stdout.splitlines()[-1])
