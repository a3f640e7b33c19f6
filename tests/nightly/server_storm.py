"""The large tests of the server, run by name: pytest tests/nightly/server_storm.py

500 jobs over 4 workers with 300 random kills (STORM_JOBS, STORM_KILLS); 25 real jobs (REAL_JOBS), of each of which server and
worker are both killed twice.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai.types.fine_tuning import FineTuningJob

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))

from desks import bench
from test_real_job import STEPS, Running, submitted, waited
from worker_storm import check, storm

REAL_JOBS = int(os.environ.get("REAL_JOBS", "25"))
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
    assert first.status == "succeeded", first
    undisturbed = running.run_of(first)
    for _ in range(REAL_JOBS):
        ended = killed(running, submitted(running.client))
        assert ended.status == "succeeded", ended
        run = running.run_of(ended)
        assert run.metrics.read_bytes() == undisturbed.metrics.read_bytes()
        assert (run.package / "model.safetensors").read_bytes() == (
            undisturbed.package / "model.safetensors"
        ).read_bytes()


def killed(running: Running, job: FineTuningJob) -> FineTuningJob:
    """Kill the server and the worker of a job, after its first step and after its second; return how it ended."""
    for kill in range(_KILLS):
        waited(running.served, job, step=kill + 1)
        running.served.process.kill()
        running.served.process.wait()
        for worker in bench(running.data).queue.workers():
            os.kill(worker.pid, signal.SIGKILL)
        running.again()
    return waited(running.served, job, step=STEPS + 1)
