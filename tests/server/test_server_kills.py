"""Workers are killed at random; no job is lost, doubled or changed by it."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from desks import Bench
from worker_storm import acting_bench, check, ready_job, storm

from luthier.jobs.queue import LEASE_SECONDS, Queue
from luthier.recipes.serve import Worker
from luthier.server.scheduler import Scheduler

JOBS, KILLS = 50, 25


def test_jobs_survive_the_killing_of_their_workers(tmp_path: Path):
    desk, jobs = storm(tmp_path / "data", num_jobs=JOBS, num_workers=4, num_kills=KILLS, seed=1)
    assert sum(job.status == "succeeded" for job in jobs) > JOBS / 2
    assert any(job.attempt > 1 for job in jobs), "no job was cut short; the test killed nothing"
    check(desk, jobs)


@pytest.fixture
def acting(tmp_path: Path) -> Bench:
    return acting_bench(tmp_path / "data")


def scheduled(desk: Bench) -> Scheduler:
    scheduler = Scheduler(desk.folder, desk.queue, desk.files, 1, "acting_worker", rescue_seconds=0.2)
    scheduler.start()
    return scheduler


def until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def stop_between_writes(process: subprocess.Popen[bytes], desk: Bench) -> None:
    """Stop a process where it neither reads nor writes the database, which nobody else could write to until it goes on."""

    def stopped() -> bool:
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        with closing(sqlite3.connect(desk.folder.database, timeout=0)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                os.kill(process.pid, signal.SIGCONT)
                return False
        return True

    until(stopped)


def trainers(desk: Bench) -> list[psutil.Process]:
    return [child for worker in desk.queue.workers() for child in psutil.Process(worker.pid).children()]


def test_a_cancelled_job_has_no_process_left_within_ten_seconds(acting: Bench):
    job = ready_job(acting)
    scheduler = scheduled(acting)
    until(lambda: acting.now(job).step > 1)
    processes = [*trainers(acting), *(psutil.Process(worker.pid) for worker in acting.queue.workers())]
    assert len(processes) == 2
    assert acting.queue.cancel(acting.project, job.id)
    assert psutil.wait_procs(processes, timeout=10)[1] == []
    assert acting.now(job).status == "cancelled" and acting.jobs.models(acting.project) == []
    scheduler.stop()


def test_a_server_that_stops_hands_its_jobs_to_the_next_one(acting: Bench):
    job = ready_job(acting)
    first = scheduled(acting)
    until(lambda: acting.now(job).step > 1)
    processes = [psutil.Process(worker.pid) for worker in acting.queue.workers()]
    first.stop()
    assert psutil.wait_procs(processes, timeout=10)[1] == []
    assert (acting.now(job).status, acting.now(job).attempt) == ("running", 0)
    second = scheduled(acting)
    until(lambda: acting.now(job).finished_at is not None)
    second.stop()
    check(acting, [acting.now(job)])
    assert acting.now(job).status == "succeeded"


def test_a_worker_that_wakes_up_behind_its_lease_writes_nothing_and_exits(acting: Bench):
    job = ready_job(acting)
    claim = acting.claimed("train")
    command = [sys.executable, "-m", "acting_worker", str(acting.folder.path), job.id, str(claim.token), "train"]
    zombie = subprocess.Popen(command, start_new_session=True)
    try:
        until(lambda: acting.now(job).step > 1)
        stop_between_writes(zombie, acting)
        later = Queue(acting.database, lambda: time.monotonic() + 2 * LEASE_SECONDS)
        assert [lost.job.id for lost, _ in later.lost()] == [job.id]
        token = acting.claimed("train").token
        before = (acting.now(job), acting.jobs.events(job.id, None, 10_000).records)
        children = psutil.Process(zombie.pid).children()
        os.kill(zombie.pid, signal.SIGCONT)
        zombie.wait(timeout=120)
        assert psutil.wait_procs(children, timeout=60)[1] == []
        assert (acting.now(job), acting.jobs.events(job.id, None, 10_000).records) == before
    finally:
        if zombie.poll() is None:
            os.killpg(zombie.pid, signal.SIGKILL)
            zombie.wait()
    Worker(acting.folder.path, job.id, token, trainer="acting_trainer").work("train")
    check(acting, [acting.now(job)])
    assert acting.now(job).status == "succeeded"


@pytest.mark.parametrize(("seed", "code"), [(1, "training_failed"), (2, "disk_full")])
def test_what_a_trainer_says_last_is_the_jobs_error(acting: Bench, seed: int, code: str):
    job = ready_job(acting, seed=seed)
    Worker(acting.folder.path, job.id, acting.claimed("train").token, trainer="acting_failure").work("train")
    ended = acting.now(job)
    assert ended.status == "failed" and ended.error is not None and ended.error["code"] == code
    assert str(acting.folder.path) not in str(ended.error["message"])


def test_a_trainer_that_is_killed_is_started_again(acting: Bench):
    job = ready_job(acting, seed=9)
    Worker(acting.folder.path, job.id, acting.claimed("train").token, trainer="acting_failure").work("train")
    assert (acting.now(job).status, acting.now(job).attempt) == ("running", 1)
    Worker(acting.folder.path, job.id, acting.claimed("train").token, trainer="acting_trainer").work("train")
    assert acting.now(job).status == "succeeded"
