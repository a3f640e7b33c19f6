"""Every address with every kind of caller: the table is made from the routes themselves, so that none is forgotten."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
from desks import bench
from serving import Served, mint, tickets
from test_guards import OPEN, addresses

from luthier.config.serving import ServeSettings
from luthier.server.app import application
from luthier.server.control import Control

# What any caller may get where no object of a project is named: lists, errors about the request, the given models.
NO_OBJECT = {200, 400, 403, 404}


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    desk = bench(tmp_path_factory.mktemp("routes") / "data")
    return addresses(list(application(Control(desk.folder, desk.database, ServeSettings())).routes))


def revoked(served: Served) -> str:
    secret = mint(served.data, "left")
    command = [sys.executable, "-m", "luthier.cli.main", "keys"]
    listed = subprocess.run(
        [*command, "list", "--data", str(served.data), "--json"], capture_output=True, check=True
    ).stdout
    (key,) = [key for key in json.loads(listed) if key["project"] == "left"]
    subprocess.run([*command, "revoke", key["id"], "--data", str(served.data)], capture_output=True, check=True)
    return secret


def expired(served: Served) -> str:
    secret = mint(served.data, "gone")
    with sqlite3.connect(served.data / "luthier.db", timeout=10) as database:
        database.execute(
            "update keys set expires_at = created_at - 1 where project_id in (select id from projects where name = 'gone')"
        )
    return secret


CALLERS: dict[str, Callable[[Served], dict[str, str]]] = {
    "none": lambda served: {"Authorization": ""},
    "wrong": lambda served: {"Authorization": f"Bearer {served.key[:-1]}{'a' if served.key[-1] != 'a' else 'b'}"},
    "shortened": lambda served: {"Authorization": f"Bearer {served.key[:-1]}"},
    "as basic": lambda served: {"Authorization": f"Basic {served.key}"},
    "in another header": lambda served: {"Authorization": "", "X-Api-Key": served.key, "Cookie": f"key={served.key}"},
    "revoked": lambda served: {"Authorization": f"Bearer {revoked(served)}"},
    "expired": lambda served: {"Authorization": f"Bearer {expired(served)}"},
}


@pytest.mark.parametrize("caller", CALLERS)
def test_no_address_but_two_answers_without_a_valid_key(served: Served, routes: list[tuple[str, str]], caller: str):
    headers = CALLERS[caller](served)
    answers = {(method, path): served.call(method, path, headers=headers)[0] for method, path in routes}
    assert {path for (_, path), status in answers.items() if status != 401} == OPEN
    assert served.call("GET", f"/v1/models?api_key={served.key}&key={served.key}", headers=headers)[0] == 401


def test_no_address_tells_another_project_of_what_is_not_its_own(served: Served, routes: list[tuple[str, str]]):
    client, other = served.client(), {"Authorization": f"Bearer {mint(served.data, 'elsewhere')}"}
    file = client.files.create(file=("tickets.jsonl", tickets(12)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="starter", training_file=file.id)
    names = {"file_id": file.id, "job_id": job.id, "batch_id": "batch_none"}
    with_objects = [(method, path) for method, path in routes if "{" in path]
    assert {path.partition("{")[2].partition("}")[0] for _, path in with_objects} <= set(names)
    for method, path in with_objects:
        body = b"{}" if method == "POST" else None
        anothers, nobodys = (
            served.call(method, path.format(**ids), body, other) for ids in (names, dict.fromkeys(names, "none"))
        )
        refused = 400 if "not_supported" in str(anothers[1]) else 404
        assert anothers[0] == nobodys[0] == refused or method == "HEAD", (method, path, anothers[0])
        said = str(anothers[1])
        for own in names.values():
            said = said.replace(own, "none")
        assert said == str(nobodys[1]), (method, path)
    for method, path in routes:
        if "{" not in path and path.startswith("/v1"):
            status, body, _ = served.call(method, path, b"{}" if method == "POST" else None, other)
            assert status in NO_OBJECT and file.id not in str(body) and job.id not in str(body), (method, path)
    assert client.files.retrieve(file.id).id == file.id and client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


@pytest.mark.parametrize("route", ["/v1/files", "/v1/fine_tuning/jobs"])
def test_a_page_behind_anothers_object_is_as_a_page_behind_none(served: Served, route: str):
    client, other = served.client(), {"Authorization": f"Bearer {mint(served.data, 'curious')}"}
    file = client.files.create(file=("tickets.jsonl", tickets(12)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="starter", training_file=file.id)
    known = file.id if route.endswith("files") else job.id
    told = [served.call("GET", f"{route}?after={after}", headers=other) for after in (known, "none")]
    assert [status for status, _, _ in told] == [400, 400]
    assert str(told[0][1]).replace(known, "none") == str(told[1][1])
    client.fine_tuning.jobs.cancel(job.id)


def test_only_the_address_that_was_asked_for_is_listened_at(served: Served):
    processes = [psutil.Process(served.process.pid), *psutil.Process(served.process.pid).children(recursive=True)]
    listening = [
        at.laddr for process in processes for at in process.net_connections() if at.status == psutil.CONN_LISTEN
    ]
    assert [(at.ip, at.port) for at in listening] == [("127.0.0.1", served.port)]
