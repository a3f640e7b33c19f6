"""Records as OpenAI's client reads them."""

from collections.abc import Callable

from luthier.core.types import JsonObject, JsonValue
from luthier.jobs.records import (
    BatchRecord,
    CheckpointRecord,
    EventRecord,
    FileRecord,
    JobRecord,
    ModelRecord,
    Page,
    Record,
)

_BATCH_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def file_object(file: FileRecord) -> JsonObject:
    """Return a file; one that is there is processed."""
    return {
        "id": file.id, "object": "file", "bytes": file.bytes, "created_at": file.created_at, "filename": file.filename,
        "purpose": file.purpose, "status": "processed", "expires_at": file.expires_at, "status_details": None,
    }  # fmt: skip


def job_object(job: JobRecord) -> JsonObject:
    """Return a job; `hyperparameters` and `method` hold what was chosen as soon as it is."""
    hyperparameters: JsonObject = {**job.hyperparameters}
    metadata: JsonValue = job.request.get("metadata")
    return {
        "id": job.id, "object": "fine_tuning.job", "created_at": job.created_at, "finished_at": job.finished_at,
        "status": job.status, "model": job.model, "fine_tuned_model": job.fine_tuned_model,
        "organization_id": job.project_id,
        "training_file": job.training_file, "validation_file": job.validation_file,
        "result_files": [] if job.result_file is None else [job.result_file], "trained_tokens": job.trained_tokens,
        "estimated_finish": job.estimated_finish, "error": job.error, "hyperparameters": hyperparameters,
        "seed": job.seed, "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "integrations": [], "metadata": metadata, "user_provided_suffix": job.request.get("suffix"),
    }  # fmt: skip


def event_object(event: EventRecord) -> JsonObject:
    """Return an event."""
    return {
        "id": event.id, "object": "fine_tuning.job.event", "created_at": event.created_at, "level": event.level,
        "message": event.message, "type": event.type, "data": event.data or {},
    }  # fmt: skip


def checkpoint_object(checkpoint: CheckpointRecord) -> JsonObject:
    """Return a checkpoint."""
    return {
        "id": checkpoint.id, "object": "fine_tuning.job.checkpoint", "created_at": checkpoint.created_at,
        "fine_tuning_job_id": checkpoint.job_id, "fine_tuned_model_checkpoint": checkpoint.model,
        "step_number": checkpoint.step, "metrics": checkpoint.metrics,
    }  # fmt: skip


def batch_object(batch: BatchRecord) -> JsonObject:
    """Return a batch; a time that has not come is null."""
    times: JsonObject = {f"{status}_at": batch.times.get(f"{status}_at") for status in _BATCH_TIMES}
    tokens_in, tokens_out = (int(str(batch.usage[name])) for name in ("tokens_in", "tokens_out"))
    return {
        "id": batch.id, "object": "batch", "endpoint": batch.endpoint, "status": batch.status, "model": batch.model,
        "completion_window": "24h", "input_file_id": batch.input_file, "output_file_id": batch.output_file,
        "error_file_id": batch.error_file, "created_at": batch.created_at, "expires_at": batch.expires_at, **times,
        "errors": None if batch.errors is None else {"object": "list", "data": batch.errors},
        "request_counts": batch.counts, "metadata": batch.request.get("metadata"),
        "usage": {
            "input_tokens": tokens_in, "input_tokens_details": {"cached_tokens": batch.usage["cached"]},
            "output_tokens": tokens_out, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens_in + tokens_out,
        },
    }  # fmt: skip


def model_object(name: str, created: int, owner: str) -> JsonObject:
    """Return a model."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def tuned_model_object(model: ModelRecord) -> JsonObject:
    """Return a tuned model."""
    return model_object(model.id, model.created_at, model.project_id)


def listed(page: Page[Record], as_object: Callable[[Record], JsonObject]) -> JsonObject:
    """Return one page of a list, with what the client asks for the next one by."""
    data: list[JsonValue] = [as_object(record) for record in page.records]
    first, last = (page.records[0].id, page.records[-1].id) if page.records else (None, None)
    return {"object": "list", "data": data, "has_more": page.has_more, "first_id": first, "last_id": last}
