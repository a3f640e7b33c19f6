"""/v1/fine_tuning/jobs: create, list, retrieve, cancel, events, checkpoints."""

import secrets

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from luthier.core.types import JsonObject
from luthier.jobs.records import JobRecord
from luthier.jobs.submit import FileGone, KeyReused, QueueFull, Submission
from luthier.jobs.tables import checkpoints, events, jobs
from luthier.server.bodies import JobRequest, after_of, checked, idempotency_key, is_retry, json_body, limit_of
from luthier.server.catalogue import meaning_of, start_of
from luthier.server.control import caller, control_of
from luthier.server.errors import ApiError, not_found, not_here
from luthier.server.wire import checkpoint_object, event_object, job_object, listed

_BUSY_SECONDS = 60


async def create(request: Request) -> Response:
    """Create a job; it is on the disk when the answer leaves."""
    body = await json_body(request)
    job = await run_in_threadpool(_created, request, body)
    control_of(request).scheduler.wake()
    return JSONResponse(job_object(job))


def list_jobs(request: Request) -> Response:
    """List a project's jobs."""
    number, limit = after_of(request, jobs), limit_of(request, 20, 100)
    wanted: JsonObject = {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    if any('"' in name for name in wanted):
        raise ApiError(
            400, "Invalid 'metadata': keys cannot hold quotation marks.", param="metadata", code="invalid_value"
        )
    without = request.query_params.get("metadata") == "null"
    page = control_of(request).jobs.listed(caller(request).project_id, number, limit, wanted, without_metadata=without)
    return JSONResponse(listed(page, job_object))


def retrieve(request: Request) -> Response:
    """Show a job."""
    return JSONResponse(job_object(_job(request)))


def cancel(request: Request) -> Response:
    """Cancel a job."""
    job = _job(request)
    if not control_of(request).queue.cancel(job.project_id, job.id):
        raise ApiError(
            400, f"Job {job.id} has already ended: it is {_job(request).status}.", param="fine_tuning_job_id",
            code="invalid_state",
        )  # fmt: skip
    return JSONResponse(job_object(_job(request)))


def list_events(request: Request) -> Response:
    """List a job's events, newest first."""
    job, number, limit = _job(request), after_of(request, events), limit_of(request, 20, 1000)
    return JSONResponse(listed(control_of(request).jobs.events(job.id, number, limit), event_object))


def list_checkpoints(request: Request) -> Response:
    """List a job's checkpoints, newest first."""
    job, number, limit = _job(request), after_of(request, checkpoints), limit_of(request, 10, 100)
    return JSONResponse(listed(control_of(request).jobs.checkpoints(job.id, number, limit), checkpoint_object))


def _job(request: Request) -> JobRecord:
    job_id = request.path_params["job_id"]
    found = control_of(request).jobs.find(caller(request).project_id, job_id)
    if found is None:
        raise not_found("fine-tuning job", job_id, "fine_tuning_job_id")
    return found


def _created(request: Request, body: JsonObject) -> JobRecord:
    wanted = checked(JobRequest, body)
    _refuse_other_methods(wanted)
    control, project_id = control_of(request), caller(request).project_id
    for param, file_id in (("training_file", wanted.training_file), ("validation_file", wanted.validation_file)):
        _check_file(request, param, file_id)
    start = start_of(control, project_id, wanted.model)
    if start is None:
        raise ApiError(
            400, f"The model {wanted.model!r} does not exist here; GET /v1/models lists those that do.", param="model",
            code="model_not_found",
        )  # fmt: skip
    submission = Submission(
        project_id, body, wanted.model, start.base,
        wanted.seed if wanted.seed is not None else secrets.randbelow(2**31),
        wanted.training_file, wanted.validation_file, _hyperparameters(wanted), start.warm_from,
        key=idempotency_key(request), is_retry=is_retry(request), resolved=meaning_of(control, wanted.model),
    )  # fmt: skip
    try:
        return control.jobs.create(submission)
    except KeyReused as error:
        raise ApiError(422, str(error), param="Idempotency-Key", code="idempotency_key_reused") from error
    except QueueFull as error:
        raise ApiError(429, str(error), code="queue_full", retry_after=_BUSY_SECONDS) from error
    except FileGone as error:
        raise not_found("file", str(error), "training_file") from error


def _refuse_other_methods(wanted: JobRequest) -> None:
    method = wanted.method
    if method is not None:
        others = {"dpo": method.dpo, "reinforcement": method.reinforcement}
        asked = [name for name, settings in others.items() if settings is not None or name == method.type]
        if asked:
            raise not_here(f"The method {asked[0]!r}", "Use 'supervised'.", "method")
    if wanted.integrations:
        raise not_here("An integration", "Every figure is in the job's events and in its result file.", "integrations")


def _check_file(request: Request, param: str, file_id: str | None) -> None:
    if file_id is None:
        return
    file = control_of(request).files.find(caller(request).project_id, file_id)
    if file is None:
        raise ApiError(400, f"Invalid '{param}': there is no file {file_id}.", param=param, code=f"invalid_{param}")
    if file.purpose != "fine-tune":
        message = f"Invalid '{param}': {file_id} was uploaded for {file.purpose!r}; upload it for 'fine-tune'."
        raise ApiError(400, message, param=param, code="invalid_file_purpose")


def _hyperparameters(wanted: JobRequest) -> JsonObject:
    of_method = wanted.method.supervised.hyperparameters if wanted.method and wanted.method.supervised else None
    if of_method and wanted.hyperparameters and of_method != wanted.hyperparameters:
        raise ApiError(
            400, "Invalid 'hyperparameters': they say something else than method.supervised.hyperparameters; leave them out.",
            param="hyperparameters", code="invalid_value",
        )  # fmt: skip
    chosen = of_method or wanted.hyperparameters
    if chosen is None:
        return {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    return chosen.model_dump(mode="json")
