"""A backup that is made while the server works is a folder that a server can go on with."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from desks import Bench, bench, rows, uploaded
from serving import running, start, tickets
from worker_storm import check, storm

from luthier.core.errors import ProofFailed, RunFolderError
from luthier.core.types import JsonObject
from luthier.jobs.batches import INPUT, OUTPUT, Batches, Wish
from luthier.jobs.opening import opened
from luthier.recipes import backup as recipe


@pytest.fixture
def desk(tmp_path: Path) -> Bench:
    return bench(tmp_path / "data")


def lost_and_restored(desk: Bench) -> Bench:
    """Back a folder up, and restore it at another place."""
    place = desk.folder.path.parent
    recipe.backup(desk.folder.path, place / "backup")
    recipe.restore(place / "backup", place / "restored")
    return bench(place / "restored")


def command(*arguments: str | Path) -> JsonObject:
    line = [sys.executable, "-m", "luthier.cli.main", "backup", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_a_backup_under_load_is_one_that_a_server_goes_on_with(tmp_path: Path):
    uploads, done = [], threading.Event()
    with running(tmp_path / "data") as served:
        client = served.client()
        first = client.files.create(file=("first.jsonl", tickets()), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="starter", training_file=first.id)

        def load() -> None:
            while not done.is_set():
                made = client.files.create(file=("more.jsonl", tickets(4 + len(uploads))), purpose="fine-tune")
                uploads.append(made.id)
                if len(uploads) % 3 == 0:
                    client.files.delete(uploads[-2])

        loading = threading.Thread(target=load)
        loading.start()
        try:
            kept = command(tmp_path / "data", tmp_path / "backup")
        finally:
            done.set()
            loading.join()
        client.fine_tuning.jobs.cancel(job.id)
    assert kept["jobs"] == 1 and 1 <= int(str(kept["files"])) <= 1 + len(uploads)
    assert command(tmp_path / "restored", tmp_path / "backup", "--restore")["files"] == kept["files"]
    again = start(tmp_path / "restored", key=served.key)
    try:
        client = again.client()
        assert client.files.content(first.id).read() == tickets()
        for file in client.files.list():
            assert len(client.files.content(file.id).read()) == file.bytes
        assert client.fine_tuning.jobs.retrieve(job.id).training_file == first.id
        client.fine_tuning.jobs.cancel(job.id)
    finally:
        assert again.stop() == 0


def test_a_job_that_was_claimed_is_claimed_anew_after_a_restore(desk: Bench):
    job = desk.queued_job(uploaded(desk))
    before = desk.claimed("train")
    restored = lost_and_restored(desk)
    claim = restored.claimed("train")
    assert claim.job.id == job.id and claim.token > before.token
    assert (restored.folder.job(job.id) / "training.jsonl").read_bytes() == rows()
    assert desk.queue.still_mine(job.id, before.token), "the backup took the claim of the running server away"


def test_an_unfinished_batch_goes_on_after_a_restore_behind_what_was_answered(desk: Bench):
    batches, file = Batches(desk.database, desk.folder, 9), uploaded(desk)
    going, ended = (batches.create(Wish(desk.project, {}, "/v1/completions", file.id)) for _ in range(2))
    assert batches.begin(going.id, 12, None)
    (desk.folder.batch(going.id) / OUTPUT).write_bytes(b'{"custom_id": "a"}\n')
    batches.refuse(ended.id, [])
    restored = lost_and_restored(desk)
    (found,) = Batches(restored.database, restored.folder, 9).unfinished()
    place = restored.folder.batch(going.id)
    assert found.id == going.id and (place / INPUT).read_bytes() == rows()
    assert (place / OUTPUT).read_bytes() == b'{"custom_id": "a"}\n'
    assert not restored.folder.batch(ended.id).exists()


def test_a_tuned_model_and_its_checkpoints_come_back(tmp_path: Path):
    desk, jobs = storm(tmp_path / "data", num_jobs=1, num_workers=1, num_kills=0, seed=1)
    restored = lost_and_restored(desk)
    check(restored, [restored.now(job) for job in jobs])
    steps = [path.name for path in sorted((restored.folder.job(jobs[0].id) / "checkpoints").iterdir())]
    assert steps == ["000010", "000015", "000020"]


def test_a_damaged_file_ends_the_backup(desk: Bench):
    path = desk.folder.file(uploaded(desk).id)
    path.unlink()  # a job's inputs may be linked to the same bytes
    path.write_bytes(rows()[:-2] + b"x\n")
    with pytest.raises(ProofFailed, match="is damaged"):
        recipe.backup(desk.folder.path, desk.folder.path.parent / "backup")
    assert not (desk.folder.path.parent / "backup").exists()


def test_a_file_that_is_lost_is_told_from_one_that_is_deleted(desk: Bench, tmp_path: Path):
    lost, deleted = uploaded(desk), uploaded(desk)
    copied = bench(tmp_path / "copy")
    copied.database.close()
    copied.folder.database.unlink()
    desk.database.copy_to(copied.folder.database)
    desk.files.delete(desk.project, deleted.id)
    with opened(copied.folder) as database:
        recipe._forget(desk.database, database, recipe.files, deleted.id)
        with pytest.raises(ProofFailed, match=lost.id):
            recipe._forget(desk.database, database, recipe.files, lost.id)
    assert bench(tmp_path / "copy").files.find(desk.project, deleted.id) is None
    desk.folder.file(lost.id).unlink()
    with pytest.raises(ProofFailed, match=lost.id):
        recipe.backup(desk.folder.path, tmp_path / "backup")


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_backup_is_not_restored(desk: Bench, tmp_path: Path, damage: str):
    file = uploaded(desk)
    recipe.backup(desk.folder.path, tmp_path / "backup")
    kept = tmp_path / "backup" / "files" / f"{file.id}.jsonl"
    kept.unlink()
    if damage == "changed":
        kept.write_bytes(b"{}")
    with pytest.raises(ProofFailed, match=file.id):
        recipe.restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_nothing_is_written_over(desk: Bench, tmp_path: Path):
    recipe.backup(desk.folder.path, tmp_path / "backup")
    with pytest.raises(RunFolderError, match="not empty"):
        recipe.backup(desk.folder.path, tmp_path / "backup")
    with pytest.raises(RunFolderError, match="not empty"):
        recipe.restore(tmp_path / "backup", desk.folder.path)
    with pytest.raises(RunFolderError, match="not a server's data folder"):
        recipe.backup(tmp_path / "nowhere", tmp_path / "other")
    with pytest.raises(RunFolderError, match="not a backup"):
        recipe.restore(desk.folder.path, tmp_path / "other")


def test_a_backup_is_its_owners_alone(desk: Bench, tmp_path: Path):
    uploaded(desk)
    recipe.backup(desk.folder.path, tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
