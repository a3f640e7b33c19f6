"""Claims, leases and tokens: whoever lost a claim changes nothing, and no job is lost with its worker."""

import subprocess
import sys
from pathlib import Path

import pytest
from desks import Bench, bench, uploaded

from luthier.jobs.files import Arrived
from luthier.jobs.processes import ProcessName, this_process
from luthier.jobs.queue import LEASE_SECONDS, MOST_ATTEMPTS, Metrics, Outcome, Queue, Stale
from luthier.jobs.records import JobRecord


@pytest.fixture
def desk(tmp_path: Path) -> Bench:
    return bench(tmp_path / "data")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def outcome(desk: Bench, job: JobRecord) -> Outcome:
    path = desk.folder.incoming / "result"
    path.write_bytes(b"step\n")
    result = desk.files.place(Arrived(path, "r.csv", 5, "0" * 64), desk.project, "fine-tune-results")
    return Outcome(f"ft:starter:luthier::{job.id}", "starter", "run/checkpoints/000004", "run/package", result, 99)


def messages(desk: Bench, job: JobRecord) -> list[str]:
    return [event.message for event in reversed(desk.jobs.events(job.id, None, 1000).records)]


def test_a_job_goes_from_its_files_to_its_model(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    assert desk.now(job).status == "queued"
    claim = desk.claimed("train")
    assert desk.queue.claim("train") is None
    desk.queue.running(job.id, claim.token, 1)
    desk.queue.measured(job.id, claim.token, [Metrics(1, "Step 1/4", {"step": 1, "train_loss": 2.0})])
    desk.queue.publish(job.id, claim.token, 4, "ft:x:ckpt-step-4", {"step": 4})
    desk.queue.succeed(job.id, claim.token, outcome(desk, job))
    ended = desk.now(job)
    assert (ended.status, ended.trained_tokens, ended.attempt) == ("succeeded", 99, 1)
    assert desk.files.find(desk.project, str(ended.result_file)) is not None
    assert [model.id for model in desk.jobs.models(desk.project)] == [ended.fine_tuned_model]
    assert messages(desk, job)[-3:] == [
        "Checkpoint created at step 4", f"New fine-tuned model created: {ended.fine_tuned_model}",
        "The job has successfully completed",
    ]  # fmt: skip


def test_a_worker_that_lost_its_claim_writes_nothing(tmp_path: Path):
    clock = Clock()
    desk = bench(tmp_path / "data")
    desk.queue = Queue(desk.database, clock)
    job = desk.queued_job(uploaded(desk))
    zombie = desk.claimed("train")
    desk.queue.take_over(job.id, zombie.token, this_process())
    clock.seconds += LEASE_SECONDS + 1
    assert [claim.job.id for claim, _ in desk.queue.lost()] == [job.id]
    second = desk.claimed("train")
    assert second.token > zombie.token
    before = messages(desk, job)
    writes = (
        lambda: desk.queue.renew(job.id, zombie.token),
        lambda: desk.queue.running(job.id, zombie.token, 1),
        lambda: desk.queue.planned(job.id, zombie.token, {"n_epochs": 7}, 1),
        lambda: desk.queue.measured(job.id, zombie.token, [Metrics(9, "stale", {"step": 9})]),
        lambda: desk.queue.publish(job.id, zombie.token, 9, "ft:stale", {"step": 9}),
        lambda: desk.queue.succeed(job.id, zombie.token, outcome(desk, job)),
        lambda: desk.queue.fail(job.id, zombie.token, {"code": "x", "message": "stale", "param": None}),
        lambda: desk.queue.release(job.id, zombie.token),
        lambda: desk.queue.lose(job.id, zombie.token),
    )
    for write in writes:
        with pytest.raises(Stale):
            write()
    assert messages(desk, job) == before
    assert desk.jobs.checkpoints(job.id, None, 10).records == ()
    assert desk.jobs.models(desk.project) == []
    assert not desk.queue.still_mine(job.id, zombie.token)
    assert desk.queue.still_mine(job.id, second.token)


def test_a_lease_that_is_renewed_is_not_taken_away(tmp_path: Path):
    clock = Clock()
    desk = bench(tmp_path / "data")
    desk.queue = Queue(desk.database, clock)
    job = desk.queued_job(uploaded(desk))
    claim = desk.claimed("train")
    for _ in range(5):
        clock.seconds += LEASE_SECONDS - 1
        desk.queue.renew(job.id, claim.token)
        assert desk.queue.lost() == []


def test_a_dead_worker_is_noticed_before_its_lease_ends(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    claim = desk.claimed("train")
    name = ProcessName(gone.pid, 1.0)
    gone.wait()
    desk.queue.take_over(job.id, claim.token, name)
    ((lost, worker),) = desk.queue.lost()
    assert (lost.job.id, worker) == (job.id, name)
    assert desk.now(job).status == "queued"
    assert "another goes on" in messages(desk, job)[-1]


def test_a_lease_of_before_a_reboot_is_worth_nothing(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    claim = desk.claimed("train")
    desk.queue.take_over(job.id, claim.token, this_process())
    after = Queue(desk.database)
    after._boot = "another boot"
    ((lost, worker),) = after.lost()
    assert lost.job.id == job.id and worker is None


def test_a_job_whose_worker_dies_again_and_again_fails(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    for _ in range(MOST_ATTEMPTS):
        assert desk.now(job).status == "queued"
        desk.queue.lose(job.id, desk.claimed("train").token)
    ended = desk.now(job)
    assert ended.status == "failed" and ended.error is not None and ended.error["code"] == "worker_lost"
    assert desk.queue.claim("train") is None


def test_a_claim_that_is_given_back_costs_no_attempt(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    for _ in range(MOST_ATTEMPTS + 2):
        desk.queue.release(job.id, desk.claimed("train").token)
    assert desk.now(job).attempt == 0 and desk.now(job).status == "queued"


def test_cancelling_takes_the_claim_away_and_ends_once(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    claim = desk.claimed("train")
    assert desk.queue.cancel(desk.project, job.id)
    assert not desk.queue.cancel(desk.project, job.id)
    assert desk.now(job).status == "cancelled"
    with pytest.raises(Stale):
        desk.queue.succeed(job.id, claim.token, outcome(desk, job))
    assert desk.jobs.models(desk.project) == []


def test_only_the_last_three_checkpoints_stay_and_none_is_published_twice(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    token = desk.claimed("train").token
    gone = [desk.queue.publish(job.id, token, step, f"m:{step}", {"step": step}) for step in (2, 4, 6, 6, 8)]
    assert gone == [[], [], [], [], [2]]
    assert [checkpoint.step for checkpoint in desk.jobs.checkpoints(job.id, None, 10).records] == [8, 6, 4]


def test_steps_that_a_resumed_training_repeats_are_told_once(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    token = desk.claimed("train").token
    for steps in ((1, 2, 3), (2, 3, 4)):
        desk.queue.measured(job.id, token, [Metrics(step, f"Step {step}", {"step": step}) for step in steps])
    assert [text for text in messages(desk, job) if text.startswith("Step")] == [f"Step {n}" for n in (1, 2, 3, 4)]
