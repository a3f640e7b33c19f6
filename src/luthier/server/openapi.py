"""/v1/openapi.json: what this server answers, written from its own routes and the models that check their bodies.

A route that is not described here is one that the server refuses by name (uploads in parts and the like); a test keeps
the others complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from luthier.core.types import JsonObject, JsonValue
from luthier.server.answer_schemas import SCHEMAS
from luthier.server.batches_api import BatchRequest
from luthier.server.bodies import JobRequest
from luthier.server.chat_bodies import ChatRequest, CompletionRequest
from luthier.server.files_api import PURPOSES

# Anything can be met by these: an argument or a key that is wrong, too many requests, a server that stops or is full.
_ALWAYS = (400, 401, 403, 421, 429, 431, 500, 503)
_WITH_BODY = (408, 413, 507)
_MEANINGS = {
    400: "The request is wrong, or asks for what this server does not have", 401: "No valid key", 403: "Not allowed",
    404: "There is no such thing in this project", 408: "The body did not arrive in time", 413: "Too large",
    421: "The server is not known by this host name", 422: "The idempotency key belongs to another request",
    429: "Come again after the time in `retry-after`", 500: "The server failed; its log says why",
    431: "Too many headers",
    503: "The server stops, or the model cannot answer now", 507: "The disk is full",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and answers; `answer` names one of SCHEMAS, or is None for bytes."""

    answer: str | None
    body: type[BaseModel] | None = None
    query: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    example: JsonObject | None = None
    leads_to: Mapping[tuple[str, str], JsonObject] = field(default_factory=dict[tuple[str, str], JsonObject])
    """Operations whose bodies may hold what this one answers, each with how."""


_ASKED: JsonObject = {"model": "starter", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
_MADE = "$response.body#/id"
_USES_OF_A_FILE: Mapping[tuple[str, str], JsonObject] = {
    ("POST", "/fine_tuning/jobs"): {"model": "starter", "training_file": _MADE},
    ("POST", "/batches"): {"input_file_id": _MADE},
}
_GOES_ON: JsonObject = {"model": "starter", "prompt": "The sky is", "max_tokens": 1}
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/files"): Operation("File", errors=_WITH_BODY, leads_to=_USES_OF_A_FILE),
    ("GET", "/files"): Operation("FileList", query=("after", "limit_files", "order", "purpose")),
    ("GET", "/files/{file_id}"): Operation("File", errors=(404,)),
    ("DELETE", "/files/{file_id}"): Operation("Deleted", errors=(404,)),
    ("GET", "/files/{file_id}/content"): Operation(None, errors=(404,)),
    ("POST", "/fine_tuning/jobs"): Operation("Job", JobRequest, errors=(404, 422, *_WITH_BODY)),
    ("GET", "/fine_tuning/jobs"): Operation("JobList", query=("after", "limit")),
    ("GET", "/fine_tuning/jobs/{job_id}"): Operation("Job", errors=(404,)),
    ("POST", "/fine_tuning/jobs/{job_id}/cancel"): Operation("Job", errors=(404,)),
    ("GET", "/fine_tuning/jobs/{job_id}/events"): Operation("EventList", query=("after", "limit_events"), errors=(404,)),
    ("GET", "/fine_tuning/jobs/{job_id}/checkpoints"): Operation("CheckpointList", query=("after", "limit"), errors=(404,)),
    ("POST", "/chat/completions"): Operation("ChatCompletion", ChatRequest, errors=(404, *_WITH_BODY), example=_ASKED),
    ("POST", "/completions"): Operation("Completion", CompletionRequest, errors=(404, *_WITH_BODY), example=_GOES_ON),
    ("POST", "/batches"): Operation("Batch", BatchRequest, errors=(404, 422, *_WITH_BODY)),
    ("GET", "/batches"): Operation("BatchList", query=("after", "limit")),
    ("GET", "/batches/{batch_id}"): Operation("Batch", errors=(404,)),
    ("POST", "/batches/{batch_id}/cancel"): Operation("Batch", errors=(404,)),
    ("GET", "/models"): Operation("ModelList"),
    ("GET", "/models/{model}"): Operation("Model", errors=(404,)),
    ("DELETE", "/models/{model}"): Operation("Deleted", errors=(404,)),
    ("GET", "/openapi.json"): Operation("Document"),
}  # fmt: skip
_LIMIT: JsonObject = {"type": "integer", "minimum": 1, "maximum": 100}
_QUERY: Mapping[str, JsonObject] = {
    "after": {"name": "after", "schema": {"type": "string"}},
    "limit": {"name": "limit", "schema": _LIMIT},
    "limit_events": {"name": "limit", "schema": {**_LIMIT, "maximum": 1000}},
    "limit_files": {"name": "limit", "schema": {**_LIMIT, "maximum": 10_000}},
    "order": {"name": "order", "schema": {"enum": ["asc", "desc"]}},
    "purpose": {"name": "purpose", "schema": {"type": "string"}},
}


def show(request: Request) -> Response:
    """Show the document."""
    (mounted,) = [route for route in request.app.routes if isinstance(route, Mount)]
    return JSONResponse(document([route for route in mounted.routes if isinstance(route, Route)]))


def document(routes: Sequence[Route]) -> JsonObject:
    """Return the OpenAPI document of these routes."""
    schemas: JsonObject = {**SCHEMAS}
    paths: dict[str, JsonObject] = {}
    for route in routes:
        path = plain(route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = OPERATIONS.get((method, path))
            if operation is not None:
                paths.setdefault(path, {})[method.lower()] = _described(route, method, path, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Luthier", "version": version("luthier"), "description": "OpenAI's API for files, fine-tuning jobs, batches, models and chat."},
        "servers": [{"url": "/v1"}],
        "security": [{"key": []}],
        "paths": {**paths},
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }  # fmt: skip


def plain(path: str) -> str:
    """Return a route's path as OpenAPI writes it."""
    return path.replace(":path}", "}")


def _described(route: Route, method: str, path: str, operation: Operation, schemas: JsonObject) -> JsonObject:
    told: JsonObject = {
        "operationId": f"{route.endpoint.__module__.rpartition('.')[2]}.{route.name}.{method.lower()}",
        "summary": (route.endpoint.__doc__ or "").strip(),
        "parameters": [*_parameters(path, operation)],
        "responses": _responses(operation),
    }
    if path == "/files" and method == "POST":
        told["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
    elif operation.body is not None:
        content: JsonObject = {"schema": _schema(operation.body, schemas)}
        if operation.example is not None:
            content["examples"] = {"shortest": {"value": operation.example}}
        told["requestBody"] = {"required": True, "content": {"application/json": content}}
    return told


def _parameters(path: str, operation: Operation) -> list[JsonValue]:
    names = [part.partition("}")[0] for part in path.split("{")[1:]]
    in_path: list[JsonValue] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    return [*in_path, *({**_QUERY[name], "in": "query"} for name in operation.query)]


def _responses(operation: Operation) -> JsonObject:
    if operation.answer is None:
        right: JsonObject = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    else:
        right = {"application/json": {"schema": _reference(operation.answer)}}
    if operation.answer in ("ChatCompletion", "Completion"):
        right["text/event-stream"] = {}  # its events are pieces of the same
    links: JsonObject = {
        f"{method} {path}": {"operationRef": f"#/paths/{path.replace('/', '~1')}/{method.lower()}", "requestBody": body}
        for (method, path), body in operation.leads_to.items()
    }
    answers: JsonObject = {"200": {"description": "As asked", "content": right, **({"links": links} if links else {})}}
    wrong: JsonObject = {"application/json": {"schema": _reference("Error")}}
    for status in sorted({*_ALWAYS, *operation.errors}):
        answers[str(status)] = {"description": _MEANINGS[status], "content": wrong}
    return answers


def _schema(body: type[BaseModel], schemas: JsonObject) -> JsonObject:
    """Add a body's schema, and those that it is made of, to the document; return what refers to it."""
    made: JsonObject = body.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = made.pop("$defs", {})
    assert isinstance(parts, dict)
    schemas.update({**parts, body.__name__: made})
    return _reference(body.__name__)


def _reference(name: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{name}"}


_FORM: JsonObject = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"enum": [*PURPOSES]},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
}
