"""Batches in the database, and the faults that their files are refused for."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from desks import Bench, bench, uploaded
from sqlalchemy import event

from luthier.jobs.batch_files import place_results
from luthier.jobs.batch_input import Examined, Item, Limits, examine, items
from luthier.jobs.batches import ERRORS, INPUT, OUTPUT, Batches, Progress, Wish
from luthier.jobs.database import Database
from luthier.jobs.records import BatchRecord
from luthier.jobs.schema import migrate
from luthier.jobs.submit import FileGone, KeyReused, QueueFull

CHAT = "/v1/chat/completions"
LIMITS = Limits(requests=4, line_bytes=1000)


@pytest.fixture
def desk(tmp_path: Path) -> Bench:
    return bench(tmp_path / "data")


def batches_of(desk: Bench) -> Batches:
    return Batches(desk.database, desk.folder, 3)


def wish(desk: Bench, file_id: str, **changes: object) -> Wish:
    values: dict = {
        "project_id": desk.project,
        "request": {"input_file_id": file_id},
        "endpoint": CHAT,
        "input_file": file_id,
    }
    return Wish(**values | changes)


def now(desk: Bench, batch: BatchRecord) -> BatchRecord:
    found = batches_of(desk).find(desk.project, batch.id)
    assert found is not None
    return found


def line(name: str = "a", **changes: object) -> bytes:
    whole = {"custom_id": name, "method": "POST", "url": CHAT, "body": {"model": "starter"}} | changes
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode() + b"\n"


def examined(tmp_path: Path, data: bytes) -> Examined:
    (tmp_path / "input").write_bytes(data)
    return examine(tmp_path / "input", CHAT, LIMITS)


def test_a_database_of_the_first_version_gets_the_table_and_keeps_its_rows(tmp_path: Path):
    database = first_version(tmp_path / "old.db")
    migrate(database)
    with database.reading() as connection:
        assert connection.execute(sa.text("select id from projects")).scalars().all() == ["proj_1"]
        assert connection.execute(sa.text("select expires_at, key from batches")).all() == []


def first_version(path: Path) -> Database:
    """A database as the first version left it, with a row."""
    database, config = Database(path), Config()
    config.set_main_option("script_location", str(Path(migrate.__code__.co_filename).parent / "migrations"))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(sa.text("insert into projects (id, name, created_at) values ('proj_1', 'old', 1)"))
    return database


def schema(path: Path) -> list[tuple[str, ...]]:
    """The version, the projects, and every table and index of a database, which must be sound."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        version, projects = "select version_num from alembic_version", "select id from projects"
        return [
            *connection.execute(version),
            *connection.execute(projects),
            *connection.execute("select name, sql from sqlite_master order by name"),
        ]


def test_a_migration_that_is_killed_at_any_statement_leaves_the_old_schema(tmp_path: Path):
    path = tmp_path / "old.db"
    first_version(path).close()
    old, survived, kills = schema(path), False, 0
    while not survived:
        pid = os.fork()
        if not pid:
            with suppress(BaseException):
                database, left = Database(path), iter(range(kills))

                def die(*arguments: object, left: Iterator[int] = left) -> None:
                    if next(left, None) is None:
                        os.kill(os.getpid(), signal.SIGKILL)

                event.listen(database._engine, "before_cursor_execute", die)
                event.listen(database._engine, "commit", die)
                migrate(database)
                os._exit(0)
            os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL)
        survived, kills = code == 0, kills + 1
        if not survived:
            assert schema(path) == old, f"killed at statement {kills}, something stayed"
    assert kills > 5 and schema(path) != old and ("proj_1",) in schema(path)


def test_a_batch_keeps_its_file_and_says_when_it_changed(desk: Bench):
    batches, file = batches_of(desk), uploaded(desk, line())
    made = batches.create(wish(desk, file.id))
    desk.files.delete(desk.project, file.id)
    assert (desk.folder.batch(made.id) / INPUT).read_bytes() == line()
    assert made.expires_at == made.created_at + 24 * 3600 and made.times == {}
    assert batches.begin(made.id, 1, "starter") and not batches.begin(made.id, 1, "starter")
    batches.note(made.id, Progress(1, 1, 0, 5, 2, 7))
    assert now(desk, made).counts == {"total": 1, "completed": 1, "failed": 0}
    batches.end(made.id, "completed", Progress(1, 1), None, None)
    ended = now(desk, made)
    assert ended.status == "completed" and {"in_progress_at", "finalizing_at", "completed_at"} == set(ended.times)
    batches.note(made.id, Progress(9, 9))
    assert now(desk, made).counts["total"] == 1, "a late note changed a batch that had ended"
    assert batches.unfinished() == [] and not batches.cancel(desk.project, made.id)


def test_a_cancellation_is_for_the_owner_alone(desk: Bench):
    batches = batches_of(desk)
    made = batches.create(wish(desk, uploaded(desk, line()).id))
    assert not batches.cancel("proj_other", made.id) and batches.find("proj_other", made.id) is None
    assert batches.cancel(desk.project, made.id) and batches.cancel(desk.project, made.id)
    assert not batches.begin(made.id, 1, None), "a cancelled batch was begun"
    assert now(desk, made).status == "cancelling"


def test_the_same_request_is_one_batch(desk: Bench):
    batches, file, other = batches_of(desk), uploaded(desk, line()), uploaded(desk, line("b"))
    first = batches.create(wish(desk, file.id, key="k"))
    assert batches.create(wish(desk, file.id, key="k")).id == first.id
    assert batches.create(wish(desk, file.id, is_retry=True)).id == first.id
    assert batches.create(wish(desk, file.id)).id != first.id
    with pytest.raises(KeyReused):
        batches.create(wish(desk, other.id, key="k"))
    batches.create(wish(desk, other.id))
    with pytest.raises(QueueFull, match="3 unfinished batches"):
        batches.create(wish(desk, other.id))


def test_a_batch_whose_file_is_gone_is_not_made(desk: Bench):
    with pytest.raises(FileGone):
        batches_of(desk).create(wish(desk, "file-none"))
    assert list(desk.folder.batches.iterdir()) == [] and batches_of(desk).unfinished() == []


def test_results_are_published_with_the_end_or_not_at_all(desk: Bench):
    batches = batches_of(desk)
    request = {"output_expires_after": {"anchor": "created_at", "seconds": 3600}}
    made = batches.create(wish(desk, uploaded(desk, line()).id, request=request))
    place = desk.folder.batch(made.id)
    (place / OUTPUT).write_bytes(b"{}\n")
    (place / ERRORS).write_bytes(b"")
    output, errors = place_results(desk.files, desk.folder, made)
    assert errors is None and output is not None and output.expires_at == output.created_at + 3600
    assert desk.files.find(desk.project, output.id) is None, "it counts before the batch has ended"
    batches.end(made.id, "cancelled", Progress(1, 1), output, None)
    found = desk.files.find(desk.project, output.id)
    assert found is not None and found.purpose == "batch_output" and found.filename == f"{made.id}_output.jsonl"
    assert desk.folder.file(output.id).read_bytes() == b"{}\n" and now(desk, made).output_file == output.id
    batches.forget_ended()
    assert place.exists(), "a backup that is being made may still need it"
    batches.forget_ended(kept_seconds=-1)
    assert not place.exists()


def test_a_files_requests_are_its_lines(tmp_path: Path):
    data = line("a") + b"\n \r\n" + line("\u00e9", body={"model": "other"}).rstrip(b"\n")
    found = examined(tmp_path, data)
    assert (found.total, found.model, found.errors) == (2, None, [])
    assert examined(tmp_path, line()).model == "starter"
    assert list(items(tmp_path / "input", CHAT, LIMITS)) == [Item("a", {"model": "starter"})]


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        (b"{]\n", "invalid_json_line", None), (b"[]\n", "invalid_json_line", None), (b"\xff\n", "invalid_json_line", None),
        (b'{"a": NaN}\n', "invalid_json_line", None), (b"[" * 900 + b"\n", "invalid_json_line", None),
        (b'{"custom_id": "\\ud800"}\n', "invalid_json_line", None), (b'{"n": ' + b"9" * 900 + b"}\n", "invalid_custom_id", "custom_id"),
        (b"{" + b" " * 2000 + b"}\n", "line_too_long", None), (line(custom_id=None), "invalid_custom_id", "custom_id"),
        (line(custom_id=7), "invalid_custom_id", "custom_id"), (line(method="GET"), "invalid_method", "method"),
        (line(url="/v1/embeddings"), "invalid_url", "url"), (line(body=[1]), "invalid_body", "body"),
        (line(extra=1), "unknown_parameter", "extra"), (line("first"), "duplicate_custom_id", "custom_id"),
    ],
)  # fmt: skip
def test_a_fault_is_told_by_line_byte_and_rule(tmp_path: Path, bad: bytes, code: str, param: str | None):
    found = examined(tmp_path, line("first") + bad + line("last"))
    (error,) = found.errors
    assert isinstance(error, dict)
    assert (error["code"], error["line"], error["param"]) == (code, 2, param)
    assert str(error["message"]).startswith(f"line 2 (byte {len(line('first'))}): ")


def test_a_file_with_nothing_or_too_much_in_it_is_refused(tmp_path: Path):
    (nothing,) = examined(tmp_path, b"\n\n").errors
    (too_much,) = examined(tmp_path, b"".join(line(str(n)) for n in range(9))).errors
    assert isinstance(nothing, dict) and isinstance(too_much, dict)
    assert nothing["code"] == "empty_file" and too_much["code"] == "too_many_requests"
    assert len(examined(tmp_path, b"{]\n" * 500).errors) == 100
