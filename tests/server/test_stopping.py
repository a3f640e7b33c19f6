"""A server that is told to stop: what is new is refused, what has begun comes to its end, nothing stays behind."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import openai
import psutil
import pytest
from openai import OpenAI
from serving import Served, start, tickets

from luthier.core.types import JsonObject

pytestmark = pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)
STREAMS = 10
ASKED = {"model": "starter", "messages": [{"role": "user", "content": "Count."}], "temperature": 2.0, "stream": True}


@pytest.fixture
def ending() -> Iterator[Callable[[Served], None]]:
    """End the servers of a test that failed before it ended them."""
    begun: list[Served] = []
    yield begun.append
    for served in begun:
        served.process.kill()
        served.process.wait()


def read(client: OpenAI, max_tokens: int, begun: list[int]) -> str | None:
    """Read a stream to its end, noting each of its parts by its thread; return why it ended."""
    reason = None
    for chunk in client.chat.completions.create(**ASKED, max_tokens=max_tokens, stop=["\0"]):
        begun.append(threading.get_ident())
        reason = chunk.choices[0].finish_reason or reason
    return reason


def until_begun(begun: list[int], streams: int) -> None:
    """Wait until every stream has begun: one that has not would be told to come again."""
    deadline = time.monotonic() + 180
    while len(set(begun)) < streams:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def asked(served: Served, connection: http.client.HTTPConnection, path: str) -> tuple[int, JsonObject, str | None]:
    """Ask over a connection that was there before, as a client's pool does."""
    connection.request("GET", path, headers={"Authorization": f"Bearer {served.key}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read()), answer.headers["retry-after"]


def test_streams_end_whole_new_requests_are_told_to_come_again_and_no_process_stays(
    tmp_path: Path, ending: Callable[[Served], None]
):
    served = start(tmp_path / "data", {"answers": STREAMS, "drain_seconds": 300})
    ending(served)
    client = served.client().with_options(timeout=180)
    file = client.files.create(file=("tickets.jsonl", tickets(40)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="starter", training_file=file.id, hyperparameters={"n_epochs": 1000})
    read(client, 1, [])  # its engine is there from now on
    begun: list[int] = []
    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(read, client, 300, begun) for _ in range(STREAMS)]
        until_begun(begun, STREAMS)
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        assert asked(served, connection, "/readyz") == (200, {"status": "ready"}, None)
        below = psutil.Process(served.process.pid).children(recursive=True)
        assert below
        served.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while (answer := asked(served, connection, "/readyz"))[0] == 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert answer == (503, {"status": "stopping"}, None)
        status, body, again = asked(served, connection, "/v1/models")
        assert (status, body["error"]["code"], again) == (503, "stopping", "5")  # type: ignore[index]
        assert {stream.result() for stream in streams} <= {"length", "stop"}
    assert served.process.wait(timeout=60) == 0
    assert psutil.wait_procs(below, timeout=10)[1] == []
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections linger, a listener does not
        free.bind(("127.0.0.1", served.port))
    log = (tmp_path / "data.log").read_text()
    assert job.id and "Traceback" not in log
    assert all(json.loads(line) for line in log.splitlines() if line.startswith("{"))


def test_a_stream_that_takes_too_long_is_told_that_it_was_cut(tmp_path: Path, ending: Callable[[Served], None]):
    served = start(tmp_path / "data", {"answers": STREAMS, "drain_seconds": 0.5})
    ending(served)
    begun: list[int] = []
    with ThreadPoolExecutor(STREAMS) as pool:
        client = served.client().with_options(timeout=180)
        streams = [pool.submit(read, client, 1500, begun) for _ in range(STREAMS)]
        until_begun(begun, STREAMS)
        since = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - since < 20
        faults = [stream.exception() for stream in streams]  # one that drew its own end in time has none
    told = [fault for fault in faults if fault is not None]
    assert told and all(isinstance(fault, openai.APIError) and "Ask again" in str(fault) for fault in told)
