"""Many clients at once, in the sizes that a test asks for: submitters, readers of streams, and those that come and do nothing."""

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import psutil
from serving import Served

# Started bare, so that twenty of them cost little: only the standard library, and no site packages.
_SUBMITTER = """
import http.client, json, sys
port, key, file_id, name, jobs = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
def submit(suffix, headers):
    body = json.dumps({"model": "starter", "training_file": file_id, "suffix": suffix, "metadata": {"storm": "yes"}})
    connection.request("POST", "/v1/fine_tuning/jobs", body, {"Authorization": "Bearer " + key, **headers})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    return [answer.status, told.get("id")]
made = [[submit(name + "-" + str(n), {}), submit("shared", {"Idempotency-Key": "storm"})] for n in range(jobs)]
print(json.dumps(made))
"""


def submitted(served: Served, file_id: str, processes: int, each: int) -> list[tuple[list[object], list[object]]]:
    """Submit jobs from many processes, each job followed by one under a key that all share; return statuses and ids."""
    running = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SUBMITTER, str(served.port), served.key, file_id, f"p{number}", str(each)],
            stdout=subprocess.PIPE, text=True,
        )
        for number in range(processes)
    ]  # fmt: skip
    return [pair for process in running for pair in json.loads(process.communicate(timeout=300)[0])]


@dataclass
class Told:
    """What came back to a crowd of readers."""

    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    pieces: Counter[int] = field(default_factory=Counter)
    again: set[str | None] = field(default_factory=set)


def crowd(served: Served, clients: int, seconds: float, max_tokens: int = 40) -> Told:
    """Have many clients read streams for a while, each the next one as soon as the last has ended."""
    told, ends = Told(), time.monotonic() + seconds
    body = json.dumps({
        "model": "starter", "messages": [{"role": "user", "content": "Tell me of the sea."}], "max_tokens": max_tokens, "stream": True,
        "temperature": 1.5,
    })  # fmt: skip

    def read(number: int) -> None:
        while time.monotonic() < ends:
            connection = HTTPConnection("127.0.0.1", served.port, timeout=120)
            try:
                connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {served.key}"})
                answer = connection.getresponse()
                text = answer.read()
                told.statuses[answer.status] += 1
                if answer.status == 200:
                    told.pieces[number] += text.count(b"data: ")
                    if not text.endswith(b"data: [DONE]\n\n") or b'"error"' in text:
                        told.errors.append(text[-300:].decode())
                elif answer.status == 429:
                    told.again.add(answer.headers["retry-after"])
                    time.sleep(0.2)
            except (OSError, HTTPException) as error:
                told.errors.append(repr(error))
            finally:
                connection.close()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def memory(served: Served) -> int:
    """The bytes of the server and its engines."""
    processes = [psutil.Process(served.process.pid), *psutil.Process(served.process.pid).children()]
    return sum(process.memory_info().rss for process in processes)


@contextmanager
def half_open(served: Served, count: int) -> Iterator[list[socket.socket]]:
    """Hold connections of which half have said nothing, and half the beginning of a request."""
    held = [socket.create_connection(("127.0.0.1", served.port), timeout=30) for _ in range(count)]
    try:
        for connection in held[::2]:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n")
        yield held
    finally:
        for connection in held:
            connection.close()


def latencies(served: Served, requests: int) -> list[float]:
    """How long requests that are well take, shortest first."""
    found = []
    for _ in range(requests):
        start = time.perf_counter()
        assert served.call("GET", "/v1/models")[0] == 200
        found.append(time.perf_counter() - start)
    return sorted(found)


def p99(found: list[float]) -> float:
    """The time that one in a hundred takes longer than."""
    return statistics.quantiles(found, n=100)[98]


def vanished(served: Served, rows_in_use: Callable[[], float]) -> float:
    """Have one client leave in the middle of its stream; return the seconds until its place is free."""
    body = json.dumps({
        "model": "starter", "messages": [{"role": "user", "content": "On and on."}], "max_tokens": 1500, "stream": True, "temperature": 2.0,
        "stop": ["\0"],
    })  # fmt: skip
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {served.key}"})
    answer = connection.getresponse()
    answer.readline()
    connection.close()
    answer.close()
    since = time.monotonic()
    while rows_in_use():
        assert time.monotonic() - since < 20
    return time.monotonic() - since
