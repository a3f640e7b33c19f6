"""/v1/chat/completions and /v1/completions: the starter, the names of the model map, and what jobs have made."""

from collections.abc import Mapping
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from luthier.core.types import JsonObject
from luthier.jobs.records import CheckpointRecord
from luthier.server.answering import events
from luthier.server.bodies import checked, json_body
from luthier.server.catalogue import packaged, served_of
from luthier.server.chat_bodies import ChatRequest, CompletionRequest, refuse_unkept
from luthier.server.chat_wire import ChatForm, CompletionForm
from luthier.server.control import Control, caller, control_of
from luthier.server.errors import ApiError
from luthier.server.replies import Reply, Stream

ENDPOINTS: Mapping[str, type[ChatRequest] | type[CompletionRequest]] = {
    "/v1/chat/completions": ChatRequest, "/v1/completions": CompletionRequest,
}  # fmt: skip


async def chat(request: Request) -> Response:
    """Answer a conversation."""
    return await _reply(request, ChatRequest, await json_body(request))


async def complete(request: Request) -> Response:
    """Go on with a text."""
    return await _reply(request, CompletionRequest, await json_body(request))


async def answered(control: Control, project_id: str, endpoint: str, body: JsonObject) -> JsonObject:
    """Return what an endpoint answers to a request of a batch; raise ApiError."""
    body = {**body}
    refuse_unkept(body)
    wanted = checked(ENDPOINTS[endpoint], body)
    if wanted.stream:
        raise ApiError(400, "A request of a batch is answered whole.", param="stream", code="invalid_value")
    return await (await reply(control, project_id, wanted)).whole()


async def _reply(request: Request, kind: type[ChatRequest] | type[CompletionRequest], body: JsonObject) -> Response:
    refuse_unkept(body)
    wanted = checked(kind, body)
    return await reply(control_of(request), caller(request).project_id, wanted)


async def reply(control: Control, project_id: str, wanted: ChatRequest | CompletionRequest) -> Reply:
    """Return the answer that a request will get; raise ApiError for a request that gets none."""
    if wanted.stream_options is not None and not wanted.stream:
        raise ApiError(400, "'stream_options' needs stream to be true.", param="stream_options", code="invalid_value")
    if wanted.n is not None and wanted.n > control.serving.answers:
        raise ApiError(
            400, f"Invalid 'n': this server writes at most {control.serving.answers} answers at once.", param="n",
            code="invalid_value",
        )  # fmt: skip
    ask = wanted.ask()
    served = await run_in_threadpool(served_of, control, project_id, wanted.model)
    if served is None:
        raise ApiError(
            404, f"The model {wanted.model!r} does not exist or you do not have access to it.", param="model",
            code="model_not_found",
        )  # fmt: skip
    if isinstance(served, CheckpointRecord):
        served = packaged(*await control.checkpoints.package(served), wanted.model)
    make = ChatForm if isinstance(wanted, ChatRequest) else CompletionForm
    form = make(served.name, ask.sampling.logprobs is not None)
    told = partial(events, control.engines, served, ask)
    if wanted.stream:
        return Stream(wanted.model, told, form, ask.sampling.n, wanted.include_usage)
    return Reply(wanted.model, told, form, ask.sampling.n)
