"""The OpenAPI document: it names every address, its schemas hold for what is answered, and nothing gets past it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from desks import bench
from jsonschema import Draft202012Validator
from serving import Served, tickets
from starlette.routing import Mount, Route

from luthier.config.serving import ServeSettings
from luthier.core.types import JsonObject
from luthier.server.app import application
from luthier.server.control import Control
from luthier.server.openapi import OPERATIONS, document, plain

EXAMPLES, SEED = os.environ.get("SCHEMATHESIS_EXAMPLES"), os.environ.get("SCHEMATHESIS_SEED", "1")


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    desk = bench(tmp_path_factory.mktemp("routes") / "data")
    app = application(Control(desk.folder, desk.database, ServeSettings()))
    (mounted,) = [route for route in app.routes if isinstance(route, Mount)]
    return [route for route in mounted.routes if isinstance(route, Route)]


def test_every_address_that_is_not_refused_by_name_is_described(routes: list[Route]):
    there = {
        (method, plain(route.path))
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
        if route.name != "refuse"
    }
    assert there == set(OPERATIONS)
    told = document(routes)
    assert {(method.upper(), path) for path, methods in told["paths"].items() for method in methods} == there  # type: ignore[union-attr]
    ids = [operation["operationId"] for methods in told["paths"].values() for operation in methods.values()]  # type: ignore[union-attr]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"] for methods in told["paths"].values() for operation in methods.values())  # type: ignore[union-attr]


def test_what_is_answered_is_as_described(served: Served):
    status, told, _ = served.call("GET", "/v1/openapi.json")
    assert status == 200
    client = served.client()
    file = client.files.create(file=("tickets.jsonl", tickets(12)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="starter", training_file=file.id, suffix="described", metadata={"a": "b"}
    )
    job_path = "/fine_tuning/jobs/{job_id}"
    for method, path in (
        ("GET", "/files"), ("GET", "/files/{file_id}"), ("GET", "/fine_tuning/jobs"), ("GET", job_path), ("GET", job_path + "/events"),
        ("GET", job_path + "/checkpoints"), ("GET", "/models"), ("GET", "/models/{model}"), ("POST", job_path + "/cancel"), ("POST", job_path + "/cancel"),
        ("POST", "/fine_tuning/jobs"), ("POST", "/chat/completions"), ("DELETE", "/models/{model}"), ("DELETE", "/files/{file_id}"), ("GET", "/files/{file_id}"),
    ):  # fmt: skip
        body = b"{}" if method == "POST" else None
        status, answer, _ = served.call(
            method, "/v1" + path.format(file_id=file.id, job_id=job.id, model="starter"), body
        )
        responses = told["paths"][path][method.lower()]["responses"]  # type: ignore[index,call-overload]
        assert str(status) in responses, (method, path, status)
        schema = responses[str(status)]["content"]["application/json"]["schema"]  # type: ignore[index,call-overload]
        Draft202012Validator({**schema, "components": told["components"]}).validate(answer)


def test_no_request_that_can_be_thought_of_makes_it_fail_or_answer_otherwise(served: Served, tmp_path: Path):
    """Positive, negative and stateful; with SCHEMATHESIS_EXAMPLES, that many of each, and every edge of every schema."""
    phases = "fuzzing,stateful" if EXAMPLES is None else "examples,coverage,fuzzing,stateful"
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", "--header", f"Authorization: Bearer {served.key}",
        "--max-examples", EXAMPLES or "3", "--seed", SEED, "--mode", "all", "--phases", phases, "--exclude-path", "/openapi.json",
        "--exclude-checks", "positive_data_acceptance", "--generation-database", "none", "--no-color", "--request-timeout", "120",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    assert served.call("GET", "/readyz")[0] == 200
    log = served.data.with_name(f"{served.data.name}.log").read_text()
    failed = [line for line in log.splitlines() if line.startswith("{") and json.loads(line)["status"] == 500]
    assert failed == []


def schema_of(told: JsonObject, name: str) -> JsonObject:
    return told["components"]["schemas"][name]  # type: ignore[index,call-overload,return-value]


def test_bodies_are_those_that_the_server_checks(routes: list[Route]):
    told = document(routes)
    assert schema_of(told, "JobRequest")["additionalProperties"] is False
    assert "learning_rate_multiplier" in schema_of(told, "Hyperparameters")["properties"]  # type: ignore[operator]
    assert {"messages", "response_format", "tools"} <= set(schema_of(told, "ChatRequest")["properties"])  # type: ignore[arg-type]
