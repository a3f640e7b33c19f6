"""A job is created once, however often and from however many processes its request arrives."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from desks import Bench, bench, uploaded

from luthier.jobs.files import Files
from luthier.jobs.records import JobRecord
from luthier.jobs.submit import Jobs, KeyReused, QueueFull

_PROCESSES, _EACH = 4, 50


@pytest.fixture
def desk(tmp_path: Path) -> Bench:
    return bench(tmp_path / "data")


def submit_many(path: Path, file_id: str, worker: int) -> list[str]:
    """Submit jobs from another process; each tenth also under a key that all processes share."""
    desk = bench(path)
    file = desk.files.find(desk.project, file_id)
    assert file is not None
    made = []
    for number in range(_EACH):
        request = {"model": "starter", "training_file": file.id, "suffix": f"{worker}-{number}"}
        made.append(desk.jobs.create(desk.submission(file, request=request)).id)
        if number % 10 == 0:
            made.append("shared:" + desk.jobs.create(desk.submission(file, key="the same")).id)
    return made


def test_two_hundred_submissions_from_processes_are_two_hundred_jobs(desk: Bench):
    file = uploaded(desk)
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        rounds = list(pool.map(submit_many, [desk.folder.path] * _PROCESSES, [file.id] * _PROCESSES, range(_PROCESSES)))
    ids = [job_id for made in rounds for job_id in made]
    own = [job_id for job_id in ids if not job_id.startswith("shared:")]
    assert len(set(own)) == _PROCESSES * _EACH
    assert len({job_id for job_id in ids if job_id.startswith("shared:")}) == 1
    assert desk.jobs.counts() == {"validating_files": _PROCESSES * _EACH + 1}
    desk.database.check()


def test_a_key_returns_its_job_and_refuses_another_request(desk: Bench):
    file = uploaded(desk)
    first = desk.jobs.create(desk.submission(file, key="k"))
    assert desk.jobs.create(desk.submission(file, key="k")).id == first.id
    with pytest.raises(KeyReused):
        desk.jobs.create(desk.submission(file, key="k", request={"model": "other"}))
    assert desk.jobs.create(desk.submission(file, key="l")).id != first.id


def test_a_retry_without_a_key_returns_the_job_and_a_second_request_makes_another(desk: Bench):
    file = uploaded(desk)
    first = desk.jobs.create(desk.submission(file))
    assert desk.jobs.create(desk.submission(file, is_retry=True)).id == first.id
    assert desk.jobs.create(desk.submission(file)).id != first.id


def test_a_job_keeps_its_file_when_that_is_deleted(desk: Bench):
    file = uploaded(desk)
    job = desk.jobs.create(desk.submission(file))
    assert desk.files.delete(desk.project, file.id)
    assert not desk.folder.file(file.id).exists()
    assert (desk.folder.job(job.id) / "training.jsonl").stat().st_size == file.bytes


def test_more_unfinished_jobs_than_allowed_are_refused_and_leave_nothing(desk: Bench):
    few = Jobs(desk.database, desk.folder, 2)
    file = uploaded(desk)
    made = {few.create(desk.submission(file)).id for _ in range(2)}
    with pytest.raises(QueueFull):
        few.create(desk.submission(file))
    assert {path.name for path in desk.folder.jobs.iterdir()} == made


def test_pages_meet_every_job_once_while_others_arrive(desk: Bench):
    file = uploaded(desk)
    there = [desk.jobs.create(desk.submission(file)).id for _ in range(9)]
    seen: list[JobRecord] = []
    after, more = None, True
    while more:
        page = desk.jobs.listed(desk.project, after, 2)
        seen += page.records
        after, more = page.records[-1].number, page.has_more
        desk.jobs.create(desk.submission(file))
    assert [job.id for job in seen] == there[::-1]
    assert max(Counter(job.id for job in seen).values()) == 1


def test_jobs_are_found_by_their_metadata(desk: Bench):
    file = uploaded(desk)
    for team in ("a", "b"):
        desk.jobs.create(desk.submission(file, request={"metadata": {"team": team, "a.b": "x"}}))
    assert len(desk.jobs.listed(desk.project, None, 10, {"team": "a", "a.b": "x"}).records) == 1
    assert desk.jobs.listed(desk.project, None, 10, {"team": "c"}).records == ()
    bare = desk.jobs.create(desk.submission(file))
    assert [job.id for job in desk.jobs.listed(desk.project, None, 10, without_metadata=True).records] == [bare.id]


def test_expired_files_are_gone_and_strays_of_a_killed_server_too(desk: Bench):
    soon = uploaded(desk, expires_after=-1)
    kept = uploaded(desk)
    assert desk.files.find(desk.project, soon.id) is None
    assert desk.files.remove_expired() == 1
    stray = desk.folder.file("file-stray")
    stray.write_bytes(b"half")
    (desk.folder.jobs / "ftjob-stray").mkdir()
    desk.files.remove_strays()
    assert stray.exists(), "a worker may be about to write its row"
    Files(desk.database, desk.folder, stray_seconds=-2).remove_strays()
    assert [path.stem for path in desk.folder.files.iterdir()] == [kept.id]
    assert list(desk.folder.jobs.iterdir()) == []
