"""/v1/files: uploads, lists, contents, deletions."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from luthier.jobs.files import Arrived
from luthier.jobs.records import FileRecord
from luthier.jobs.tables import files
from luthier.server.bodies import after_of, limit_of, one_of
from luthier.server.control import caller, control_of
from luthier.server.errors import ApiError, not_found
from luthier.server.uploads import receive
from luthier.server.wire import file_object, listed

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_SHORTEST, _LONGEST = 3600, 2_592_000


async def create(request: Request) -> Response:
    """Take a file in."""
    fields, arrived = await receive(request)
    try:
        made = await run_in_threadpool(_kept, request, fields, arrived)
    finally:
        arrived.path.unlink(missing_ok=True)
    control_of(request).counters.uploaded_bytes += made.bytes
    return JSONResponse(file_object(made))


def list_files(request: Request) -> Response:
    """List a project's files."""
    control, key = control_of(request), caller(request)
    limit = limit_of(request, 10_000, 10_000)
    ascending = one_of(request, "order", ("asc", "desc"), "desc") == "asc"
    page = control.files.listed(
        key.project_id,
        after_of(request, files),
        limit,
        purpose=request.query_params.get("purpose"),
        ascending=ascending,
    )
    return JSONResponse(listed(page, file_object))


def retrieve(request: Request) -> Response:
    """Show a file."""
    return JSONResponse(file_object(_file(request)))


def content(request: Request) -> Response:
    """Send a file's bytes, whole."""
    file = _file(request)
    request.scope["headers"] = [header for header in request.scope["headers"] if header[0] != b"range"]
    path = control_of(request).folder.file(file.id)
    return FileResponse(path, media_type="application/octet-stream", filename=file.filename)


def delete(request: Request) -> Response:
    """Delete a file."""
    file_id = request.path_params["file_id"]
    if not control_of(request).files.delete(caller(request).project_id, file_id):
        raise not_found("file", file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _file(request: Request) -> FileRecord:
    file_id = request.path_params["file_id"]
    found = control_of(request).files.find(caller(request).project_id, file_id)
    if found is None:
        raise not_found("file", file_id)
    return found


def _kept(request: Request, fields: dict[str, str], arrived: Arrived) -> FileRecord:
    control, key = control_of(request), caller(request)
    purpose = fields.get("purpose")
    if purpose not in PURPOSES:
        raise ApiError(
            400, f"Invalid 'purpose': expected one of {', '.join(PURPOSES)}.", param="purpose", code="invalid_value"
        )
    seconds = _expiry(fields)
    if control.files.stored_bytes(key.project_id) + arrived.bytes > control.serving.stored_bytes:
        raise ApiError(
            413, "The project's files take all the room that it has; delete some first.", code="quota_exceeded"
        )
    return control.files.keep(arrived, key.project_id, purpose, seconds)


def _expiry(fields: dict[str, str]) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    fits = seconds is not None and seconds.isascii() and seconds.isdigit() and len(seconds) < 9
    if anchor != "created_at" or not fits or not _SHORTEST <= int(seconds or 0) <= _LONGEST:
        raise ApiError(
            400, f"Invalid 'expires_after': expected the anchor created_at and {_SHORTEST} to {_LONGEST} seconds.",
            param="expires_after", code="invalid_value",
        )  # fmt: skip
    return int(seconds or 0)
