"""Whether the server lives, whether it can work, and its figures for Prometheus."""

from collections.abc import Iterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from luthier.server.control import Counters, control_of


def healthz(request: Request) -> Response:
    """Say that the process answers."""
    return JSONResponse({"status": "ok"})


def readyz(request: Request) -> Response:
    """Say whether the database can be read and waiting jobs are looked after."""
    control = control_of(request)
    control.jobs.counts()
    if not control.scheduler.is_running:
        return JSONResponse({"status": "not ready"}, 503)
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Tell the figures in Prometheus' text format."""
    control = control_of(request)
    jobs, engines = await run_in_threadpool(control.jobs.counts), await control.engines.figures()
    text = "\n".join(_lines(control.counters, jobs, engines)) + "\n"
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def _lines(counters: Counters, jobs: dict[str, int], engines: dict[str, int]) -> Iterator[str]:
    yield "# TYPE luthier_requests_total counter"
    for (route, method, status), count in sorted(counters.requests.items()):
        yield f'luthier_requests_total{{route="{route}",method="{method}",status="{status}"}} {count}'
    yield "# TYPE luthier_request_seconds_total counter"
    for route, seconds in sorted(counters.seconds.items()):
        yield f'luthier_request_seconds_total{{route="{route}"}} {seconds:.6f}'
    yield "# TYPE luthier_requests_in_flight gauge"
    yield f"luthier_requests_in_flight {counters.in_flight}"
    yield "# TYPE luthier_uploaded_bytes_total counter"
    yield f"luthier_uploaded_bytes_total {counters.uploaded_bytes}"
    yield "# TYPE luthier_jobs gauge"
    for status, count in sorted(jobs.items()):
        yield f'luthier_jobs{{status="{status}"}} {count}'
    for name, value in engines.items():
        yield f"# TYPE luthier_engine_{name} gauge"
        yield f"luthier_engine_{name} {value}"
