"""/v1/batches: create, retrieve, list, cancel. `batching.py` does the work."""

from typing import Annotated, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from luthier.core.types import JsonObject
from luthier.jobs.batches import Wish
from luthier.jobs.records import BatchRecord
from luthier.jobs.submit import FileGone, KeyReused, QueueFull
from luthier.jobs.tables import batches
from luthier.server.bodies import Metadata, Strict, after_of, checked, idempotency_key, is_retry, json_body, limit_of
from luthier.server.chat_api import ENDPOINTS
from luthier.server.control import caller, control_of
from luthier.server.errors import ApiError, not_found, not_here
from luthier.server.wire import batch_object, listed

PURPOSE = "batch"
_BUSY_SECONDS = 60


class ExpiresAfter(Strict):
    """How long the files with the answers are kept."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class BatchRequest(Strict):
    """The body of POST /v1/batches."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=100)]
    endpoint: Annotated[str, Field(min_length=1, max_length=100)]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


async def create(request: Request) -> Response:
    """Create a batch; it is on the disk when the answer leaves."""
    made = await run_in_threadpool(_created, request, await json_body(request))
    return JSONResponse(batch_object(made))


def retrieve(request: Request) -> Response:
    """Show a batch."""
    return JSONResponse(batch_object(_batch(request)))


def list_batches(request: Request) -> Response:
    """List a project's batches, newest first."""
    number, limit = after_of(request, batches), limit_of(request, 20, 100)
    return JSONResponse(
        listed(control_of(request).batches.listed(caller(request).project_id, number, limit), batch_object)
    )


def cancel(request: Request) -> Response:
    """Cancel a batch."""
    batch = _batch(request)
    if not control_of(request).batches.cancel(batch.project_id, batch.id):
        raise ApiError(
            400,
            f"Batch {batch.id} has already ended: it is {_batch(request).status}.",
            param="batch_id",
            code="invalid_state",
        )
    return JSONResponse(batch_object(_batch(request)))


def _batch(request: Request) -> BatchRecord:
    batch_id = request.path_params["batch_id"]
    found = control_of(request).batches.find(caller(request).project_id, batch_id)
    if found is None:
        raise not_found("batch", batch_id, "batch_id")
    return found


def _created(request: Request, body: JsonObject) -> BatchRecord:
    wanted = checked(BatchRequest, body)
    if wanted.endpoint not in ENDPOINTS:
        raise not_here(f"A batch over {wanted.endpoint!r}", f"Batches go over {' and '.join(ENDPOINTS)}.", "endpoint")
    project_id = caller(request).project_id
    _check_file(request, project_id, wanted.input_file_id)
    wish = Wish(
        project_id,
        body,
        wanted.endpoint,
        wanted.input_file_id,
        key=idempotency_key(request),
        is_retry=is_retry(request),
    )
    try:
        return control_of(request).batches.create(wish)
    except KeyReused as error:
        raise ApiError(422, str(error), param="Idempotency-Key", code="idempotency_key_reused") from error
    except QueueFull as error:
        raise ApiError(429, str(error), code="queue_full", retry_after=_BUSY_SECONDS) from error
    except FileGone as error:
        raise not_found("file", str(error), "input_file_id") from error


def _check_file(request: Request, project_id: str, file_id: str) -> None:
    file = control_of(request).files.find(project_id, file_id)
    if file is None:
        raise ApiError(
            400,
            f"Invalid 'input_file_id': there is no file {file_id}.",
            param="input_file_id",
            code="invalid_input_file",
        )
    if file.purpose != PURPOSE:
        raise ApiError(
            400, f"Invalid 'input_file_id': {file_id} was uploaded for {file.purpose!r}; upload it for {PURPOSE!r}.",
            param="input_file_id", code="invalid_file_purpose",
        )  # fmt: skip
