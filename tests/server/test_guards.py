"""Who may call, from where, and how much; what is written down about it."""

import json
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from desks import bench
from serving import Served, mint
from starlette.routing import BaseRoute, Mount, Route

from luthier.config.serving import ServeSettings
from luthier.server.app import application
from luthier.server.control import Control

OPEN = {"/healthz", "/readyz"}


def addresses(routes: list[BaseRoute], prefix: str = "") -> list[tuple[str, str]]:
    """Every method and path of an application."""
    found = []
    for route in routes:
        if isinstance(route, Mount):
            found += addresses(list(route.routes), prefix + route.path)
        else:
            assert isinstance(route, Route)
            path = prefix + route.path.replace("{rest:path}", "x").replace("{model:path}", "starter")
            found += [(method, path) for method in sorted(route.methods or ())]
    return found


def test_every_address_but_two_wants_a_key(served: Served, tmp_path: Path):
    desk = bench(tmp_path)
    routes = addresses(list(application(Control(desk.folder, desk.database, ServeSettings())).routes))
    assert len(routes) > 30
    answers = {(method, path): served.call(method, path, headers={"Authorization": ""})[0] for method, path in routes}
    assert {path for (_, path), status in answers.items() if status != 401} == OPEN


@pytest.mark.parametrize(
    "header", ["Bearer sk-luthier-none", "Basic abc", "Bearer", "bearer " + "x" * 9000, "Bearer \u00e9"]
)
def test_a_key_must_be_right(served: Served, header: str):
    status, body, headers = served.call("GET", "/v1/models", headers={"Authorization": header})
    assert status == 401 and body["error"]["code"] == "invalid_api_key"  # type: ignore[index]
    assert headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"Host": "evil.example"}, 421), ({"Host": "127.0.0.1.evil.example"}, 421), ({"Host": "["}, 421), ({"Host": "localhost:1"}, 200),
        ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Origin": "http://localhost:3000"}, 200),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT", "PATCH", "OPTIONS"])
def test_pages_of_other_sites_and_rebound_names_are_refused(
    served: Served, headers: dict[str, str], wanted: int, method: str
):
    status, _, answered = served.call(method, "/healthz", headers=headers)
    assert status == (wanted if wanted != 200 or method == "GET" else 405)
    assert "access-control-allow-origin" not in answered


def multipart(*parts: bytes) -> tuple[bytes, dict[str, str]]:
    body = b"".join(b"--cut\r\n" + part + b"\r\n" for part in parts) + b"--cut--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=cut"}


def field(name: str, value: bytes = b"fine-tune") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value


FILE = b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "headers", "wanted"),
    [
        (*multipart(field("purpose"), FILE + b"x" * (1 << 20) + b"y"), 413),
        (*multipart(*[field(str(n)) for n in range(1000)]), 400),
        (*multipart(b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"\r\n"), 400),
        (*multipart(field("purpose", b"x" * 10_000)), 400),
        (*multipart(field("purpose")), 400),
        (*multipart(field("purpose"), FILE + b"1", FILE + b"2"), 400),
        (b"--cut\r\n" + FILE + b"half", {"Content-Type": "multipart/form-data; boundary=cut"}, 400),
        (b"x" * 5000, {"Content-Type": "multipart/form-data; boundary=cut"}, 400),
        (b"{}", {"Content-Type": "application/json"}, 400),
        (b"", {"Content-Type": "multipart/form-data"}, 400),
    ],
)  # fmt: skip
def test_a_bad_upload_is_refused_and_leaves_nothing(served: Served, body: bytes, headers: dict[str, str], wanted: int):
    before = sorted((served.data / "files").iterdir())
    status, answer, _ = served.call("POST", "/v1/files", body, headers)
    assert (status, set(answer)) == (wanted, {"error"})
    assert list((served.data / "incoming").iterdir()) == []
    assert sorted((served.data / "files").iterdir()) == before


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"x" * (1 << 17), 413), (b"[" * 60_000, 400), (b'{"a": NaN}', 400), (b'{"a": "\\ud800"}', 400), (b"[]", 400), (b"", 400),
        (b'{"seed": ' + b"9" * 20_000 + b"}", 400), (b'{"model": "\\u0000", "training_file": "\\u0000"}', 400), (b"\xff", 400),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused(served: Served, body: bytes, wanted: int):
    assert served.call("POST", "/v1/fine_tuning/jobs", body)[0] == wanted


@pytest.mark.parametrize(
    "path",
    ["/v1/fine_tuning/jobs?limit=0", "/v1/fine_tuning/jobs?limit=x", "/v1/fine_tuning/jobs?limit=%D9%A3", "/v1/files?limit=99999",
     "/v1/files?order=up", '/v1/fine_tuning/jobs?metadata["]=x', "/v1/files?after=%00"],
)  # fmt: skip
def test_bad_arguments_of_lists_are_refused(served: Served, path: str):
    assert served.call("GET", path.replace('"', "%22"))[0] == 400


def test_what_is_not_there_is_said_in_openais_form(served: Served):
    for method, path, wanted in (("GET", "/v1/nothing", 404), ("GET", "/nothing", 404), ("PUT", "/v1/models", 405)):
        status, body, headers = served.call(method, path)
        assert headers.get("allow") == (None if wanted == 404 else "GET, HEAD")
        assert status == wanted and set(body["error"]) == {"message", "type", "param", "code"}  # type: ignore[arg-type]


def test_a_method_that_is_not_there_is_told_which_are(served: Served):
    assert served.call("PATCH", "/v1/files")[2]["allow"] == "GET, HEAD, POST"
    assert served.call("PUT", "/v1/models/starter")[2]["allow"] == "DELETE, GET, HEAD"
    assert served.call("POST", "/healthz")[2]["allow"] == "GET, HEAD"


def test_half_open_connections_are_closed_and_keep_nobody_waiting(served: Served):
    idle = [socket.create_connection(("127.0.0.1", served.port), timeout=10) for _ in range(50)]
    for connection in idle[::2]:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n")
    assert served.call("GET", "/healthz")[0] == 200
    assert all(connection.recv(1) == b"" for connection in idle)
    slow = socket.create_connection(("127.0.0.1", served.port), timeout=10)
    head = f"POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.key}\r\nContent-Length: 9\r\n\r\n"
    slow.sendall(head.encode() + b"{")
    assert slow.recv(100).startswith(b"HTTP/1.1 408 ")


def test_figures_and_log_tell_of_requests_but_not_what_they_hold(served: Served):
    served.call("GET", "/v1/files/file-canary?purpose=canary", headers={"X-Request-Id": "my-id", "X-Other": "canary"})
    text = served.call("GET", "/metrics")[1]["text"]  # the line is written behind its answer, and before this one
    log = served.data.with_name(f"{served.data.name}.log").read_text()
    assert "canary" not in log and served.key not in log
    entry = next(json.loads(line) for line in log.splitlines() if '"my-id"' in line)
    assert entry["route"] == "files_api.retrieve" and entry["status"] == 404
    assert 'luthier_requests_total{route="files_api.retrieve",method="GET",status="404"}' in str(text)
    assert served.call("GET", "/readyz")[1] == {"status": "ready"}


SAMPLE = re.compile(r'(?P<name>[a-z_]+)(\{[a-z]+="[\w.-]*"(,[a-z]+="[\w.-]*")*\})? (?P<value>\d+(\.\d+)?(e-?\d+)?)')


def test_every_figure_has_its_kind_and_its_help(served: Served):
    """Prometheus drops a page of which one line is wrong."""
    status, body, headers = served.call("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    kinds: dict[str, str] = {}
    seen: set[str] = set()
    for line in str(body["text"]).splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds and kind == ("counter" if name.endswith("_total") else "gauge")
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            sample = SAMPLE.fullmatch(line)
            assert sample is not None and sample["name"] in kinds, line
            assert line.rpartition(" ")[0] not in seen
            seen.add(line.rpartition(" ")[0])
    assert {"luthier_requests_total", "luthier_answer_tokens_total", "luthier_engine_bytes", "luthier_stopping"} <= set(
        kinds
    )


def test_the_first_key_is_kept_for_its_owner_alone(served: Served):
    kept = served.data / "api_key"
    assert kept.read_text().strip() == served.key and kept.stat().st_mode & 0o777 == 0o600
    assert (served.data / "luthier.db").stat().st_mode & 0o777 == 0o600


def serve_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "luthier.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_open_address_needs_a_key_first_and_a_folder_has_one_server(served: Served, tmp_path: Path):
    refused = serve_command("serve", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "new"))
    assert refused.returncode == 2 and "luthier keys create" in refused.stderr
    second = serve_command("serve", "--port", "0", "--data", str(served.data))
    assert second.returncode == 2 and f"process id {served.process.pid}" in second.stderr


def test_the_control_plane_loads_no_torch():
    code = "import luthier.server.main, luthier.recipes.serve, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "peft"} & set(loaded)


def test_an_upload_that_the_disk_has_no_room_for_leaves_nothing(served: Served):
    before = sorted((served.data / "files").iterdir())
    body, headers = multipart(field("purpose"), FILE + b"x" * 900_000)
    unlimited = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (600_000, unlimited[1]))
    try:
        status, answer, answered = served.call("POST", "/v1/files", body, headers)
    finally:
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert (status, answer["error"]["code"], answered["x-should-retry"]) == (507, "disk_full", "false")  # type: ignore[index]
    assert list((served.data / "incoming").iterdir()) == [] and sorted((served.data / "files").iterdir()) == before
    assert served.call("POST", "/v1/files", body, headers)[0] == 200


def test_keys_are_made_listed_and_revoked_beside_a_running_server(served: Served):
    secret = mint(served.data, "team-b")
    assert served.call("GET", "/v1/models", headers={"Authorization": f"Bearer {secret}"})[0] == 200
    listed = json.loads(serve_command("keys", "list", "--data", str(served.data), "--json").stdout)
    (key,) = [key for key in listed if key["project"] == "team-b"]
    assert key["last_used_at"] is not None and secret not in json.dumps(listed)
    assert serve_command("keys", "revoke", key["id"], "--data", str(served.data)).returncode == 0
    assert served.call("GET", "/v1/models", headers={"Authorization": f"Bearer {secret}"})[0] == 401
    unknown = serve_command("keys", "revoke", "key_none", "--data", str(served.data))
    assert unknown.returncode == 2 and "luthier keys list" in unknown.stderr
