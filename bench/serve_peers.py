"""The servers that bench/serve.py measures `luthier serve` against, as their users start them."""

import argparse
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from luthier.core.hardware import usable_cores

READY_SECONDS = 180
Peer = AbstractContextManager[tuple[int, str]]


def peers(options: argparse.Namespace, folder: str) -> dict[str, Peer]:
    """Return the peers that have a Python, each as what starts it and gives its port and what the model is called there."""
    found: dict[str, Peer] = {}
    if options.peer:
        found["transformers serve"] = transformers_server(options.peer, folder)
    if options.llama_cpp:
        found["llama-cpp-python"] = llama_server(options.llama_cpp, folder)
    return found


@contextmanager
def transformers_server(python: str, folder: str) -> Iterator[tuple[int, str]]:
    """Serve with `transformers serve`, whose answers share their batches when it is told so."""
    port = free_port()
    program = str(Path(python).with_name("transformers"))
    with started([program, "serve", "--host", "127.0.0.1", "--port", str(port), "--continuous-batching"], port):
        yield port, folder


@contextmanager
def llama_server(python: str, folder: str) -> Iterator[tuple[int, str]]:
    """Serve the model as a GGUF file with llama-cpp-python, which keeps what a prompt begins with from the one before."""
    port = free_port()
    with tempfile.TemporaryDirectory() as made:
        file = f"{made}/model.gguf"
        subprocess.run([python, str(Path(__file__).with_name("gguf_of.py")), folder, file], check=True)
        command = [
            python, "-m", "llama_cpp.server", "--model", file, "--model_alias", "measured", "--host", "127.0.0.1", "--port", str(port),
            "--n_ctx", "2048", "--n_threads", str(usable_cores()), "--n_threads_batch", str(usable_cores()), "--interrupt_requests", "False",
        ]  # fmt: skip
        with started(command, port):
            yield port, "measured"


@contextmanager
def started(command: Sequence[str], port: int) -> Iterator[None]:
    """Run a server for a block, from when it answers on."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(usable_cores()), "HF_HUB_OFFLINE": "1"}
    environment.pop("OMP_WAIT_POLICY", None)  # it has the machine to itself, as for its users
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    said: list[str] = []
    assert process.stderr is not None
    threading.Thread(target=said.extend, args=(process.stderr,), daemon=True).start()
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: " + "".join(said[-20:]))
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _answers(port: int) -> bool:
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/v1/models")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
