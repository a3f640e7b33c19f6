"""The addresses of the API, and what stands before them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from luthier.jobs.records import now
from luthier.server import chat_api, files_api, fine_tuning_api, health, models_api
from luthier.server.control import Control
from luthier.server.errors import not_here
from luthier.server.guards import LOOPBACK, Authenticated, Observed, SameSite, http_error

_JOB = "/fine_tuning/jobs/{job_id}"
_LATER = {
    "/uploads": "Send the file whole to /v1/files.",
    "/uploads/{rest:path}": "Send the file whole to /v1/files.",
    "/batches": "Send the requests one by one.",
    "/batches/{rest:path}": "Send the requests one by one.",
    "/fine_tuning/checkpoints/{rest:path}": "The models of a project are open to all of its keys.",
    "/fine_tuning/alpha/graders/{rest:path}": "Grade answers with: luthier grade",
    _JOB + "/pause": "Cancel the job, and continue from its last checkpoint.",
    _JOB + "/resume": "Create a job with a checkpoint as its model.",
    "/responses": "Use /v1/chat/completions.",
    "/embeddings": "Only chat models are served.",
}


def application(control: Control, hosts: Sequence[str] = ()) -> Starlette:
    """Return the server's application; `hosts` are the names it is known by, beside the loopback's."""
    known = (*LOOPBACK, *hosts, *control.serving.hosts)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        control.scheduler.start()
        yield
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
        Route("/models", models_api.list_models),
        Route("/models/{model:path}", models_api.retrieve),
        Route("/models/{model:path}", models_api.delete, methods=["DELETE"]),
        *(Route(path, _later(path, instead), methods=["GET", "POST", "DELETE"]) for path, instead in _LATER.items()),
    ]


def _later(path: str, instead: str) -> Callable[[Request], Response]:
    def refuse(request: Request) -> Response:
        raise not_here(f"/v1{path.partition('/{')[0]}", instead)

    return refuse
