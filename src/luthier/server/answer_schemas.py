"""The JSON schemas of what the server answers, closed: a field that is not here is not sent."""

from collections.abc import Mapping

from luthier.core.types import JsonObject, JsonValue

_TEXT: JsonObject = {"type": "string"}
_NUMBER: JsonObject = {"type": "number"}
_INTEGER: JsonObject = {"type": "integer"}
_ANY_OBJECT: JsonObject = {"type": "object"}


def _object(
    kind: str | None, fields: Mapping[str, JsonObject], optional: Mapping[str, JsonObject] | None = None
) -> JsonObject:
    """Return the schema of an object; `kind` is what its field `object` says."""
    own: JsonObject = {} if kind is None else {"object": {"const": kind}}
    required: list[JsonValue] = [*own, *fields]
    properties: JsonObject = {**own, **fields, **(optional or {})}
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _or_null(schema: JsonObject) -> JsonObject:
    return {"anyOf": [schema, {"type": "null"}]}


def _list_of(name: str) -> JsonObject:
    """Return the schema of a page of a list."""
    items: JsonObject = {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}
    more: dict[str, JsonObject] = {
        "has_more": {"type": "boolean"},
        "first_id": _or_null(_TEXT),
        "last_id": _or_null(_TEXT),
    }
    return _object("list", {"data": items, **more})


def _many(schema: JsonObject) -> JsonObject:
    return {"type": "array", "items": schema}


_ERROR = _object(None, {"message": _TEXT, "type": _TEXT, "param": _or_null(_TEXT), "code": _or_null(_TEXT)})
_JOB_ERROR = _object(None, {"code": _TEXT, "message": _TEXT, "param": _or_null(_TEXT)})
_USAGE = _object(None, {
    "prompt_tokens": _INTEGER, "completion_tokens": _INTEGER, "total_tokens": _INTEGER,
    "prompt_tokens_details": _object(None, {"cached_tokens": _INTEGER}),
})  # fmt: skip
_BATCH_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_BATCH_ERROR = _object(None, {"code": _TEXT, "message": _TEXT, "line": _or_null(_INTEGER), "param": _or_null(_TEXT)})
_CALL = _object(None, {
    "id": _TEXT, "type": {"const": "function"}, "function": _object(None, {"name": _TEXT, "arguments": _TEXT}),
})  # fmt: skip
_HEAD: dict[str, JsonObject] = {"id": _TEXT, "created": _INTEGER, "model": _TEXT}

SCHEMAS: Mapping[str, JsonObject] = {
    "Error": _object(None, {"error": _ERROR}),
    "Document": _ANY_OBJECT,
    "Deleted": {
        "type": "object", "additionalProperties": False, "required": ["id", "object", "deleted"],
        "properties": {"id": _TEXT, "object": {"enum": ["file", "model"]}, "deleted": {"const": True}},
    },
    "File": _object("file", {
        "id": _TEXT, "bytes": _INTEGER, "created_at": _INTEGER, "filename": _TEXT, "purpose": _TEXT,
        "status": {"const": "processed"}, "expires_at": _or_null(_INTEGER), "status_details": {"type": "null"},
    }),
    "FileList": _list_of("File"),
    "Job": _object("fine_tuning.job", {
        "id": _TEXT, "created_at": _INTEGER, "finished_at": _or_null(_INTEGER), "model": _TEXT,
        "status": {"enum": ["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]},
        "fine_tuned_model": _or_null(_TEXT), "organization_id": _TEXT, "training_file": _TEXT,
        "validation_file": _or_null(_TEXT), "result_files": _many(_TEXT), "trained_tokens": _or_null(_INTEGER),
        "estimated_finish": _or_null(_INTEGER), "error": _or_null(_JOB_ERROR), "hyperparameters": _ANY_OBJECT, "seed": _INTEGER,
        "method": _ANY_OBJECT, "integrations": _many(_ANY_OBJECT), "metadata": _or_null(_ANY_OBJECT),
        "user_provided_suffix": _or_null(_TEXT),
    }),
    "JobList": _list_of("Job"),
    "Event": _object("fine_tuning.job.event", {
        "id": _TEXT, "created_at": _INTEGER, "level": {"enum": ["info", "warn", "error"]}, "message": _TEXT,
        "type": {"enum": ["message", "metrics"]}, "data": _ANY_OBJECT,
    }),
    "EventList": _list_of("Event"),
    "Checkpoint": _object("fine_tuning.job.checkpoint", {
        "id": _TEXT, "created_at": _INTEGER, "fine_tuning_job_id": _TEXT, "fine_tuned_model_checkpoint": _TEXT,
        "step_number": _INTEGER, "metrics": _ANY_OBJECT,
    }),
    "CheckpointList": _list_of("Checkpoint"),
    "Batch": _object("batch", {
        "id": _TEXT, "endpoint": _TEXT, "model": _or_null(_TEXT), "completion_window": {"const": "24h"}, "input_file_id": _TEXT,
        "status": {"enum": ["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]},
        "output_file_id": _or_null(_TEXT), "error_file_id": _or_null(_TEXT), "created_at": _INTEGER, "expires_at": _INTEGER,
        **{f"{status}_at": _or_null(_INTEGER) for status in _BATCH_TIMES},
        "errors": _or_null(_object("list", {"data": _many(_BATCH_ERROR)})), "metadata": _or_null(_ANY_OBJECT),
        "request_counts": _object(None, {"total": _INTEGER, "completed": _INTEGER, "failed": _INTEGER}),
        "usage": _object(None, {
            "input_tokens": _INTEGER, "output_tokens": _INTEGER, "total_tokens": _INTEGER,
            "input_tokens_details": _object(None, {"cached_tokens": _INTEGER}),
            "output_tokens_details": _object(None, {"reasoning_tokens": _INTEGER}),
        }),
    }),
    "BatchList": _list_of("Batch"),
    "Model": _object("model", {"id": _TEXT, "created": _INTEGER, "owned_by": _TEXT}, {"root": _TEXT}),
    "ModelList": _object("list", {"data": _many({"$ref": "#/components/schemas/Model"})}),
    "ChatCompletion": _object("chat.completion", {
        **_HEAD, "usage": _USAGE, "choices": _many(_object(None, {
            "index": _INTEGER, "finish_reason": {"enum": ["stop", "length", "tool_calls"]}, "logprobs": _or_null(_ANY_OBJECT),
            "message": _object(None, {"role": {"const": "assistant"}, "content": _or_null(_TEXT)}, {
                "refusal": {"type": "null"}, "tool_calls": _many(_CALL),
            }),
        })),
    }, {"system_fingerprint": _or_null(_TEXT)}),
    "Completion": _object("text_completion", {
        **_HEAD, "usage": _USAGE, "choices": _many(_object(None, {
            "index": _INTEGER, "text": _TEXT, "finish_reason": {"enum": ["stop", "length"]}, "logprobs": _or_null(_ANY_OBJECT),
        })),
    }),
}  # fmt: skip
