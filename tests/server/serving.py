"""A server in a process of its own, as `luthier serve` starts it, and the official client to call it with."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from openai import OpenAI

from luthier.core.threads import child_environment
from luthier.core.types import JsonObject

SETTINGS: JsonObject = {
    "threads": 1, "models": {"gpt-4o-mini-2024-07-18": "starter"}, "file_bytes": 1 << 20, "body_bytes": 1 << 16, "read_seconds": 1.0,
    "runs": "", "job": {"model": {"dtype": "float32"}, "train": {"steps": 4}},
}  # fmt: skip


@dataclass
class Served:
    """A running server: how to call it, and how to end it."""

    process: subprocess.Popen[str]
    data: Path
    url: str
    key: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def client(self, key: str | None = None, retries: int = 0) -> OpenAI:
        """Return the official client, which checks every answer."""
        return OpenAI(
            base_url=self.url,
            api_key=key or self.key,
            max_retries=retries,
            _strict_response_validation=True,
            timeout=180,  # the first answer waits for an engine, and a busy machine is no failure
        )

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, JsonObject, dict[str, str]]:
        """Send a request as it stands; return status, body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.key}"} | (headers or {}))
            answer = connection.getresponse()
            text = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
            is_json = found.get("content-type", "").startswith("application/json")
            return answer.status, json.loads(text) if is_json and text else {"text": text.decode()}, found
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the server and wait for it."""
        self.process.send_signal(number)
        return self.process.wait(timeout=40)


def start(data: Path, settings: JsonObject | None = None, key: str = "") -> Served:
    """Start a server on a free port and wait until it answers; a new folder's key is taken from what it prints."""
    file = data.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**SETTINGS, **(settings or {})}))
    process = subprocess.Popen(
        [sys.executable, "-m", "luthier.cli.main", "serve", "--data", str(data), "--port", "0", "--config", str(file)],
        stdout=subprocess.PIPE, stderr=(data.parent / f"{data.name}.log").open("a"), text=True, env=child_environment(1),
    )  # fmt: skip
    assert process.stdout is not None
    url = ""
    while not url:
        line = process.stdout.readline()
        assert line, (data.parent / f"{data.name}.log").read_text()
        key = line.strip().removeprefix("API key: ") if line.startswith("API key: ") else key
        url = line.strip().removeprefix("Luthier serves at ") if line.startswith("Luthier serves at ") else ""
    return Served(process, data, url, key)


@contextmanager
def running(data: Path, settings: JsonObject | None = None) -> Iterator[Served]:
    """Serve for the length of a block."""
    served = start(data, settings)
    try:
        yield served
    finally:
        assert served.stop() == 0


def mint(data: Path, project: str) -> str:
    """Make a key with the command, beside the running server."""
    command = [sys.executable, "-m", "luthier.cli.main", "keys", "create", "--data", str(data), "--project", project]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    return done.stdout.strip().removeprefix("API key: ")


def tickets(count: int = 40) -> bytes:
    """Rows in OpenAI's form: a question, and one word as the answer."""
    queues = {"billing": ("invoice", "refund", "charge"), "shipping": ("parcel", "courier", "delivery")}
    words = [(word, queue) for queue, named in queues.items() for word in named]
    lines = []
    for number in range(count):
        word, queue = words[number % len(words)]
        turns = [
            {"role": "user", "content": f"Please look at {word} number {number}."}, {"role": "assistant", "content": queue}
        ]  # fmt: skip
        lines.append(json.dumps({"messages": turns}))
    return ("\n".join(lines) + "\n").encode()
