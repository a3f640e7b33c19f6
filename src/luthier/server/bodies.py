"""What comes in with a request: JSON bodies within limits, checked field by field; the arguments of lists."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Literal, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic import JsonValue as AnyJson
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request

from luthier.core.types import JsonObject, JsonValue
from luthier.server.control import caller, control_of
from luthier.server.errors import ApiError

Body = TypeVar("Body", bound=BaseModel)
Auto = Literal["auto"]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
_KEY_LENGTH = 255
# Where an argument may be of several kinds, pydantic names the kind beside the place.
_KINDS = ("constrained-", "literal[", "list[", "str", "dict", "[key]")


class Strict(BaseModel):
    """A body that takes no argument which it does not know, and no value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Hyperparameters(Strict):
    """The hyperparameters of supervised tuning."""

    batch_size: Auto | Annotated[int, Field(ge=1, le=100_000)] = "auto"
    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = "auto"


class Supervised(Strict):
    """The settings of the method `supervised`."""

    hyperparameters: Hyperparameters | None = None


class Method(Strict):
    """How a job trains; methods that are not there are told apart from mistakes by the handler."""

    type: Literal["supervised", "dpo", "reinforcement"] = "supervised"
    supervised: Supervised | None = None
    dpo: AnyJson = None
    reinforcement: AnyJson = None


class JobRequest(Strict):
    """The body of POST /v1/fine_tuning/jobs."""

    model: Annotated[str, Field(min_length=1, max_length=500)]
    training_file: Annotated[str, Field(min_length=1, max_length=100)]
    validation_file: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    metadata: Metadata | None = None
    integrations: list[AnyJson] | None = None


async def chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives; raise ApiError when it is larger than `limit`, stalls or breaks off."""
    too_large = ApiError(413, f"The body is larger than the {limit} bytes that this server takes.", code="too_large")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    size, stream = 0, request.stream()
    while True:
        try:
            async with asyncio.timeout(control_of(request).serving.read_seconds):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise ApiError(408, "The body did not arrive in time.", code="timeout") from error
        except ClientDisconnect as error:
            raise ApiError(400, "The body broke off.", code="incomplete_body") from error
        if chunk is None:
            return
        size += len(chunk)
        if size > limit:
            raise too_large
        yield chunk


async def json_body(request: Request) -> JsonObject:
    """Return the JSON object that a request carries; raise ApiError."""
    data = b"".join([chunk async for chunk in chunks(request, control_of(request).serving.body_bytes)])
    try:
        value: JsonValue = json.loads(data, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates are refused here
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON that can be used: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    return value


def checked(kind: type[Body], value: JsonObject) -> Body:
    """Return a body as its kind; raise ApiError naming the first argument that is wrong."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        param, first, expected = _first(error)
        unknown = first["type"] == "extra_forbidden"
        message = f"Unrecognized request argument supplied: {param}" if unknown else f"Invalid '{param}': {expected}."
        raise ApiError(400, message, param=param, code="unknown_parameter" if unknown else "invalid_value") from error


def _first(error: ValidationError) -> tuple[str, ErrorDetails, str]:
    """Return the first place that is wrong, as deep inside an argument as it was found, what is, and all that could stand there."""
    wrong = error.errors()
    places = [_place(one["loc"]) for one in wrong if one["loc"][:1] == wrong[0]["loc"][:1]]
    deepest = max(places, key=len)
    there = [one for one in wrong if _place(one["loc"]) == deepest]
    return deepest, there[0], ", or ".join(one["msg"] for one in there)


def _place(steps: tuple[int | str, ...]) -> str:
    """Return where a value stands as OpenAI writes it, `stop[2]`; the kinds that it might have had are left out."""
    named = [step for index, step in enumerate(steps) if index == 0 or not str(step).startswith(_KINDS)]
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in named).removeprefix(".")


def idempotency_key(request: Request) -> str | None:
    """Return the name under which a request counts once; raise ApiError."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _KEY_LENGTH:
        raise ApiError(
            400, f"An idempotency key has 1 to {_KEY_LENGTH} characters.", param="Idempotency-Key", code="invalid_value"
        )
    return key


def is_retry(request: Request) -> bool:
    """Tell whether the client says that it has sent the same request before."""
    return request.headers.get("x-stainless-retry-count", "0") not in ("", "0")


def limit_of(request: Request, default: int, most: int) -> int:
    """Return the argument `limit` of a list; raise ApiError."""
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
        raise ApiError(
            400, f"Invalid 'limit': expected an integer from 1 to {most}.", param="limit", code="invalid_value"
        )
    return int(text)


def after_of(request: Request, table: sa.Table) -> int | None:
    """Return the place in its table of the row behind which a page begins; raise ApiError when there is none."""
    after = request.query_params.get("after")
    if after is None:
        return None
    number = control_of(request).jobs.number_of(table, caller(request).project_id, after)
    if number is None:
        raise ApiError(400, f"Invalid 'after': there is no {after}.", param="after", code="invalid_value")
    return number


def one_of(request: Request, name: str, choices: tuple[str, ...], default: str) -> str:
    """Return an argument that has few values; raise ApiError."""
    value = request.query_params.get(name, default)
    if value not in choices:
        raise ApiError(
            400, f"Invalid '{name}': expected one of {', '.join(choices)}.", param=name, code="invalid_value"
        )
    return value


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is not JSON")
