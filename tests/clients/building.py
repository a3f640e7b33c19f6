"""Environments with other clients of OpenAI's API, each in a folder of its own under build/clients, made when first needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[2] / "build" / "clients"
HERE = Path(__file__).parent
_SECONDS = 600
_TRIES = ("--retries", "1", "--timeout", "15", "--disable-pip-version-check")


def python_with(package: str) -> Path:
    """Return a Python that has a package and what it needs; skip the test where that cannot be installed."""
    place = BUILD / package.replace("==", "-")
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        _installed([sys.executable, "-m", "venv", str(place)], package)
        _installed([str(python), "-m", "pip", "install", "-q", *_TRIES, package], package)
        (place / "installed").touch()
    return python


def laid_before(package: str) -> Path:
    """Return a folder with a package and what it needs, to be laid before this environment; skip the test where it cannot be installed."""
    place = BUILD / f"{package.replace('==', '-')}-before"
    if not (place / "installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "-q", *_TRIES, "--target", str(place), package]
        _installed(command, package)
        (place / "installed").touch()
    return place


def node_with(package: str) -> Path:
    """Return a folder from which Node finds a package; skip the test where there is no Node or no package."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is not installed, so its client cannot be tried")
    place = BUILD / f"node-{package}"
    if not (place / "installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "package.json").write_text('{"private": true, "type": "module"}')
        _installed(
            ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--prefix", str(place), package], package
        )
        (place / "installed").touch()
    for script in HERE.glob("*.mjs"):  # Node looks for packages beside the script
        shutil.copyfile(script, place / script.name)
    return place


def walked(command: list[str], url: str, key: str) -> list[str]:
    """Run a flow against a server; return the steps that it says it has taken. Fail with what it said last."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS,
        env={**environment, "LUTHIER_URL": url, "LUTHIER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [line.removeprefix("ok ") for line in done.stdout.splitlines() if line.startswith("ok ")]


def _installed(command: list[str], package: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{package} could not be installed within {_SECONDS} s")
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        pytest.skip(f"{package} cannot be installed here: {said[-1] if said else 'no word why'}")
