"""A run with a local model asks the network nothing: every Python process that it starts meets a closed one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import LUTHIER, needs_starter
from small_run import rows

from luthier.core.threads import child_environment

# Python imports this by itself where it starts, in the run and in the processes that the run starts.
CLOSED = """
import os, socket

def closed(*arguments, **options):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{arguments}\\n")
    raise OSError("the network is closed")

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, closed)
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, closed)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No network, an empty cache, and nothing that tells the libraries to stay offline."""
    (tmp_path / "sitecustomize.py").write_text(CLOSED)
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    search = os.pathsep.join([str(tmp_path), inherited.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": search, "CALLS": str(tmp_path / "calls"), "HF_HOME": str(tmp_path / "cache")}
    return child_environment(1, {**inherited, **own})


@needs_starter
def test_a_run_with_a_local_model_asks_the_network_nothing(tmp_path: Path, environment: dict[str, str]):
    data, arguments = tmp_path / "rows.jsonl", ["--input", "text", "--output", "queue"]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    for setting in (
        "train.method=lora", "train.steps=1", "compare.arms=[tuned]", "compare.train_rows=0", "generate.max_new_tokens=2",
        "compare.latency_rows=0", "compare.resamples=10", "split.near_duplicate=1", "model.dtype=float32",
    ):  # fmt: skip
        arguments += ["--set", setting]
    done = subprocess.run(
        [*LUTHIER, "run", str(data), *arguments, "--out", str(tmp_path / "run")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "package" / "certificate.json").exists()
    assert not (tmp_path / "calls").exists(), (tmp_path / "calls").read_text()


def test_the_closed_network_would_be_noticed(tmp_path: Path, environment: dict[str, str]):
    call = "import socket; socket.create_connection(('127.0.0.1', 1))"
    done = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "the network is closed" in done.stderr
    assert "127.0.0.1" in (tmp_path / "calls").read_text()
