"""The large crowds, run by name on a machine that does nothing else: pytest tests/nightly/crowd_storm.py

Ten minutes of 32 streams (CROWD_SECONDS), 200 clients that vanish (VANISHED), 500 sockets that say nothing, 100,000 spoiled headers of
weights (MUTATIONS), ten thousand looks at how long a wrong key takes. The fuzzing of every address is
`SCHEMATHESIS_EXAMPLES=2000 pytest tests/server/test_openapi.py`.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from crowds import crowd, half_open, latencies, memory, p99, vanished
from desks import bench
from serving import Served, running
from test_chat import figures
from test_inspection import mutations

SECONDS = float(os.environ.get("CROWD_SECONDS", "600"))
VANISHED = int(os.environ.get("VANISHED", "200"))
MUTATIONS = int(os.environ.get("MUTATIONS", "100000"))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = {"answers": 16, "waiting": 32, "read_seconds": 20.0, "connections": 1024}
    with running(tmp_path_factory.mktemp("crowd") / "data", settings) as server:
        yield server


def test_ten_minutes_of_streams_leave_the_memory_as_it_was(crowded: Served):
    crowd(crowded, 32, min(60.0, SECONDS / 4))
    before = memory(crowded)
    told = crowd(crowded, 32, SECONDS)
    assert told.errors == [] and set(told.statuses) <= {200, 429}
    assert max(told.pieces.values()) <= 3 * min(told.pieces.values())
    assert memory(crowded) <= 1.05 * before


def test_two_hundred_clients_vanish_and_each_place_is_free_within_a_second(crowded: Served):
    seconds = [vanished(crowded, lambda: figures(crowded)["luthier_engine_rows"]) for _ in range(VANISHED)]
    assert max(seconds) <= 1.0
    assert "Traceback" not in crowded.data.with_name("data.log").read_text()


def test_five_hundred_half_open_sockets_do_not_slow_the_others(crowded: Served):
    alone = latencies(crowded, 500)
    with half_open(crowded, 500) as held:
        assert p99(latencies(crowded, 500)) <= 2 * p99(alone)
        assert all(connection.recv(1) == b"" for connection in held)


def test_spoiled_headers_are_refused_or_sound(tmp_path: Path):
    save_file({"a": torch.zeros(3, 2), "b": torch.ones(5)}, tmp_path / "model.safetensors", {"format": "pt"})
    mutations(tmp_path / "model.safetensors", MUTATIONS, seed=2)


def test_how_long_a_wrong_key_takes_does_not_tell_how_much_of_it_is_right(tmp_path: Path):
    """The rank correlation of time with the number of right characters is that of chance."""
    keys = bench(tmp_path / "data").keys
    secret, _ = keys.mint()
    right, seconds = [], []
    for number in range(10_000):
        length = number * 7919 % len(secret)
        wrong = secret[:length] + "~" * (len(secret) - length)
        start = time.perf_counter_ns()
        assert keys.holder(wrong) is None
        seconds.append(time.perf_counter_ns() - start)
        right.append(length)
    assert abs(spearmanr(right, seconds).statistic) < 0.05
