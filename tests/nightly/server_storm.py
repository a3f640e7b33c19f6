"""The large tests of the server, run by name: pytest tests/nightly/server_storm.py

500 jobs over 4 workers with 300 random kills; a real job whose server and worker are both killed, again and again.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))

from desks import bench
from test_real_job import STEPS, Running, submitted, waited
from worker_storm import check, storm

_KILLS = 2


def test_five_hundred_jobs_survive_three_hundred_kills(tmp_path: Path):
    desk, jobs = storm(
        tmp_path / "data", num_jobs=int(os.environ.get("STORM_JOBS", "500")), num_workers=4,
        num_kills=int(os.environ.get("STORM_KILLS", "300")), seed=2,
    )  # fmt: skip
    assert sum(job.status == "succeeded" for job in jobs) > len(jobs) / 2
    check(desk, jobs)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path / "data")
    yield made
    made.served.stop()


def test_a_real_job_that_is_killed_with_its_server_goes_on_in_the_same_bytes(running: Running):
    first = waited(running.served, submitted(running.client), step=STEPS + 1)
    job = submitted(running.client)
    for kill in range(_KILLS):
        waited(running.served, job, step=kill + 1)
        running.served.process.kill()
        running.served.process.wait()
        for worker in bench(running.data).queue.workers():
            os.kill(worker.pid, signal.SIGKILL)
        running.again()
    ended = waited(running.served, job, step=STEPS + 1)
    assert (first.status, ended.status) == ("succeeded", "succeeded")
    runs = [running.run_of(found) for found in (first, ended)]
    assert runs[0].metrics.read_bytes() == runs[1].metrics.read_bytes()
    assert len({(run.package / "model.safetensors").read_bytes() for run in runs}) == 1
