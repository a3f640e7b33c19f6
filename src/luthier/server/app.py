"""The addresses of the API, and what stands before them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from luthier.jobs.batch_input import Limits
from luthier.jobs.records import now
from luthier.server import batches_api, chat_api, files_api, fine_tuning_api, health, models_api, openapi
from luthier.server.batching import Batcher
from luthier.server.control import Control
from luthier.server.errors import not_here
from luthier.server.guards import LOOPBACK, Authenticated, Observed, SameSite, http_error

_JOB = "/fine_tuning/jobs/{job_id}"
_LATER = {
    "/uploads": "Send the file whole to /v1/files.",
    "/uploads/{rest:path}": "Send the file whole to /v1/files.",
    "/fine_tuning/checkpoints/{rest:path}": "The models of a project are open to all of its keys.",
    "/fine_tuning/alpha/graders/{rest:path}": "Grade answers with: luthier grade",
    _JOB + "/pause": "Cancel the job, and continue from its last checkpoint.",
    _JOB + "/resume": "Create a job with a checkpoint as its model.",
    "/responses": "Use /v1/chat/completions.",
    "/responses/{rest:path}": "Use /v1/chat/completions.",
    "/conversations": "Send the messages with each request.",
    "/conversations/{rest:path}": "Send the messages with each request.",
    "/evals": "Grade answers with: luthier compare",
    "/evals/{rest:path}": "Grade answers with: luthier compare",
    "/embeddings": "Only chat models are served.",
    "/moderations": "Only chat models are served.",
    "/images/{rest:path}": "Only chat models are served.",
    "/audio/{rest:path}": "Only chat models are served.",
}


def application(control: Control, hosts: Sequence[str] = ()) -> Starlette:
    """Return the server's application; `hosts` are the names it is known by, beside the loopback's."""
    known = (*LOOPBACK, *hosts, *control.serving.hosts)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        control.scheduler.start()
        batching = asyncio.create_task(_batcher(control).run())
        yield
        batching.cancel()
        with suppress(asyncio.CancelledError):
            await batching
        await run_in_threadpool(control.engines.close)
        await run_in_threadpool(control.scheduler.stop)

    app = Starlette(
        routes=[
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
            Mount("/v1", routes=_v1(), middleware=[Middleware(Authenticated)]),
            Route("/metrics", health.metrics, middleware=[Middleware(Authenticated)]),
        ],
        middleware=[Middleware(Observed, control=control), Middleware(SameSite, hosts=known)],
        exception_handlers={HTTPException: http_error},
        lifespan=lifespan,
    )
    app.state.control, app.state.started = control, now()
    return app


def _v1() -> list[Route]:
    return [
        Route("/files", files_api.create, methods=["POST"]),
        Route("/files", files_api.list_files),
        Route("/files/{file_id}", files_api.retrieve),
        Route("/files/{file_id}", files_api.delete, methods=["DELETE"]),
        Route("/files/{file_id}/content", files_api.content),
        Route("/fine_tuning/jobs", fine_tuning_api.create, methods=["POST"]),
        Route("/fine_tuning/jobs", fine_tuning_api.list_jobs),
        Route(_JOB, fine_tuning_api.retrieve),
        Route(_JOB + "/cancel", fine_tuning_api.cancel, methods=["POST"]),
        Route(_JOB + "/events", fine_tuning_api.list_events),
        Route(_JOB + "/checkpoints", fine_tuning_api.list_checkpoints),
        Route("/chat/completions", chat_api.chat, methods=["POST"]),
        Route("/completions", chat_api.complete, methods=["POST"]),
        Route("/batches", batches_api.create, methods=["POST"]),
        Route("/batches", batches_api.list_batches),
        Route("/batches/{batch_id}", batches_api.retrieve),
        Route("/batches/{batch_id}/cancel", batches_api.cancel, methods=["POST"]),
        Route("/openapi.json", openapi.show),
        Route("/models", models_api.list_models),
        Route("/models/{model:path}", models_api.retrieve),
        Route("/models/{model:path}", models_api.delete, methods=["DELETE"]),
        *(Route(path, _later(path, instead), methods=["GET", "POST", "DELETE"]) for path, instead in _LATER.items()),
    ]


def _batcher(control: Control) -> Batcher:
    limits = Limits(control.serving.batch_requests, control.serving.body_bytes)
    answer = partial(chat_api.answered, control)
    return Batcher(control.batches, control.files, control.folder, answer, control.serving.batch_answers, limits)


def _later(path: str, instead: str) -> Callable[[Request], Response]:
    def refuse(request: Request) -> Response:
        raise not_here(f"/v1{path.removesuffix('/{rest:path}')}", instead)

    return refuse
