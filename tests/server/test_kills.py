"""Workers are killed at random; no job is lost, doubled or changed by it."""

from pathlib import Path

from killing import check, storm


def test_jobs_survive_the_killing_of_their_workers(tmp_path: Path):
    desk, jobs = storm(tmp_path / "data", num_jobs=4, num_workers=2, num_kills=3, seed=1)
    assert all(job.status == "succeeded" for job in jobs)
    assert any(job.attempt > 1 for job in jobs), "no job was cut short; the test killed nothing"
    check(desk, jobs)
