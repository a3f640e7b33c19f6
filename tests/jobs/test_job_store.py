"""The database, its schema, the lock on the data folder, the keys, the attempt folders."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from desks import bench

from luthier.core.errors import RunFolderError, SettingsError
from luthier.core.hashing import text_hash
from luthier.jobs.attempt import attempts, forget_earlier, link_checkpoint, prepare
from luthier.jobs.database import Database, journal_mode
from luthier.jobs.folder import DataFolder
from luthier.jobs.keys import Keys
from luthier.jobs.processes import ProcessName, is_alive, kill_group, start_apart, this_process
from luthier.jobs.schema import migrate
from luthier.jobs.tables import metadata
from luthier.jobs.words import as_lines


def test_the_migrations_lead_to_the_tables_that_the_code_knows(tmp_path: Path):
    database = Database(tmp_path / "a.db")
    migrate(database)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path):
    database = Database(tmp_path / "a.db")
    migrate(database)
    with database.writing() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    with pytest.raises(RunFolderError, match="does not know"):
        migrate(database)


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path):
    desk = bench(tmp_path)
    with pytest.raises(ZeroDivisionError), desk.database.writing() as connection:
        connection.execute(sa.text("insert into projects (id, name, created_at) values ('p', 'p', 1)"))
        _ = 1 // 0
    with desk.database.reading() as connection:
        assert connection.execute(sa.text("select count(*) from projects where id = 'p'")).scalar() == 0


@pytest.mark.parametrize(
    ("version", "mode"),
    [((3, 40, 1), "TRUNCATE"), ((3, 44, 5), "TRUNCATE"), ((3, 44, 6), "WAL"), ((3, 45, 0), "TRUNCATE"),
     ((3, 50, 6), "TRUNCATE"), ((3, 50, 7), "WAL"), ((3, 51, 2), "TRUNCATE"), ((3, 51, 3), "WAL"), ((3, 60, 0), "WAL")],
)  # fmt: skip
def test_the_journal_mode_keeps_away_from_versions_with_the_bug(version: tuple[int, ...], mode: str):
    assert journal_mode(version) == mode


def test_every_connection_has_its_pragmas(tmp_path: Path):
    database = Database(tmp_path / "a.db")
    with database.reading() as connection:
        said = {name: connection.exec_driver_sql(f"pragma {name}").scalar() for name in ("synchronous", "foreign_keys")}
        assert str(connection.exec_driver_sql("pragma journal_mode").scalar()).upper() == journal_mode()
    assert said == {"synchronous": 2, "foreign_keys": 1}


def test_a_second_server_is_told_who_holds_the_folder(tmp_path: Path):
    folder = DataFolder(tmp_path)
    folder.create()
    with folder.held(), pytest.raises(RunFolderError, match=f"process id {os.getpid()}"), DataFolder(tmp_path).held():
        pass
    with DataFolder(tmp_path).held():
        pass


def test_nobody_else_may_look_into_the_folder(tmp_path: Path):
    before = os.umask(0)
    try:
        folder = DataFolder(tmp_path / "data")
        folder.create()
    finally:
        os.umask(before)
    for path in (folder.path, folder.files, folder.jobs, folder.incoming, folder.trash):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_keys_open_until_they_are_revoked_and_are_not_stored(tmp_path: Path):
    desk = bench(tmp_path)
    secret, made = desk.keys.mint("team-a", "laptop")
    held = desk.keys.holder(secret)
    assert held is not None and (held.project, held.id) == ("team-a", made.id)
    assert desk.keys.holder(secret[:-1]) is None and desk.keys.holder("") is None
    assert secret.encode() not in desk.folder.database.read_bytes()
    assert secret not in as_lines(desk.keys.listed()) and made.hint in as_lines(desk.keys.listed())
    desk.keys.revoke(made.id)
    assert desk.keys.holder(secret) is None
    with pytest.raises(SettingsError, match="no key 'key_'"):
        desk.keys.revoke("key_")
    with pytest.raises(SettingsError, match="letters, digits"):
        desk.keys.mint("team a/../b")


def test_a_key_ends_by_itself(tmp_path: Path):
    desk = bench(tmp_path)
    secret, made = desk.keys.mint("team-a", "for a while", days=2)
    assert made.expires_at == made.created_at + 2 * 86_400 and "ends 20" in as_lines(desk.keys.listed())
    assert desk.keys.holder(secret) is not None and made.is_valid(made.created_at)
    with desk.database.writing() as connection:
        connection.execute(sa.text("update keys set expires_at = created_at - 1 where id = :id"), {"id": made.id})
    assert desk.keys.holder(secret) is None and "EXPIRED" in as_lines(desk.keys.listed())
    assert {key.id for key in desk.keys.listed() if key.is_valid(made.created_at)} == {
        key.id for key in desk.keys.listed()
    } - {made.id}


def test_the_keys_of_an_older_database_go_on(tmp_path: Path):
    database = Database(tmp_path / "old.db")
    with database.writing() as connection:
        migrate_to(connection, "0002")
        connection.execute(sa.text("insert into projects (id, name, created_at) values ('proj_1', 'old', 1)"))
        connection.execute(
            sa.text(
                "insert into keys (id, project_id, name, hash, hint, created_at) values ('key_1', 'proj_1', '', :hash, 'abcd', 1)"
            ),
            {"hash": text_hash("the secret")},
        )
    migrate(database)
    held = Keys(database).holder("the secret")
    assert held is not None and held.expires_at is None and Keys(database).any_valid()


def migrate_to(connection: sa.Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__code__.co_filename).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def test_an_attempt_goes_on_in_files_of_its_own(tmp_path: Path):
    folder = DataFolder(tmp_path)
    folder.create()
    folder.job("j").mkdir()
    first = prepare(folder, "j", 2)
    checkpoint = first / "run" / "checkpoints" / "000004"
    checkpoint.mkdir(parents=True)
    (checkpoint / "MANIFEST.json").write_text("{}")
    (checkpoint.parent / ".tmp-000005-1").mkdir()
    (first / "run" / "config.yaml").write_text("seed: 1")
    (first / "run" / "metrics.jsonl").write_text("{}\n")
    second = prepare(folder, "j", 5)
    with (first / "run" / "metrics.jsonl").open("a") as stream:  # the trainer of the first still writes
        stream.write("stale\n")
    assert (second / "run" / "metrics.jsonl").read_text() == "{}\n"
    assert (second / "run" / "checkpoints" / "000004" / "MANIFEST.json").samefile(checkpoint / "MANIFEST.json")
    assert not (second / "run" / "checkpoints" / ".tmp-000005-1").exists()
    assert link_checkpoint(folder, "j", checkpoint) and link_checkpoint(folder, "j", checkpoint)
    assert not link_checkpoint(folder, "j", checkpoint.with_name("000009"))
    forget_earlier(folder, "j", 5)
    assert attempts(folder, "j") == [second]
    assert (folder.checkpoint("j", 4) / "MANIFEST.json").read_text() == "{}"


def test_a_process_is_known_by_more_than_its_number(tmp_path: Path):
    me = this_process()
    assert is_alive(me)
    assert not is_alive(ProcessName(me.pid, me.start - 1))
    kill_group(ProcessName(me.pid, me.start - 1))  # not this one, or there would be no next line
    child = start_apart(["http.server", "0"], tmp_path / "log", os.environ)
    import psutil

    name = ProcessName(child.pid, psutil.Process(child.pid).create_time())
    assert is_alive(name)
    kill_group(name)
    child.wait(timeout=10)
    assert not is_alive(name)


def test_what_a_worker_started_dies_with_it(tmp_path: Path):
    """The worker is killed at once; its trainer has no chance to go on writing."""
    code = (
        "import os, sys, time; from pathlib import Path; from luthier.jobs.processes import start_tethered;"
        f"child = start_tethered(['http.server', '0'], Path({str(tmp_path / 'log')!r}), os.environ, Path({str(tmp_path)!r}));"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    import psutil

    trainer = psutil.Process(int(worker.stdout.readline()))
    worker.kill()
    worker.wait()
    assert psutil.wait_procs([trainer], timeout=10)[1] == []
