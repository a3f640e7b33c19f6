"""Whether the server lives, whether it can work, and its figures for Prometheus."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from luthier.server.control import Counters, control_of
from luthier.server.engines import Tokens

_ENGINE_HELP = {
    "processes": "Base models in memory.",
    "bytes": "Memory of their processes.",
    "requests": "Requests that they have.",
    "rows": "Answers that are being written.",
    "waiting": "Requests that wait for a row.",
}


def healthz(request: Request) -> Response:
    """Say that the process answers."""
    return JSONResponse({"status": "ok"})


def readyz(request: Request) -> Response:
    """Say whether the database can be read, waiting jobs are looked after, and nobody has told the server to stop."""
    control = control_of(request)
    control.jobs.counts()
    if control.counters.stopping:
        return JSONResponse({"status": "stopping"}, 503)
    if not control.scheduler.is_running:
        return JSONResponse({"status": "not ready"}, 503)
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Tell the figures in Prometheus' text format."""
    control = control_of(request)
    jobs, engines = await run_in_threadpool(control.jobs.counts), await control.engines.figures()
    families = [*_of_requests(control.counters), *_of_work(control.engines.tokens, jobs, engines)]
    return PlainTextResponse("".join(map(_text, families)), media_type="text/plain; version=0.0.4; charset=utf-8")


class Family(NamedTuple):
    """The samples of one name, each with the labels that tell it apart."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def _of_requests(counters: Counters) -> Iterator[Family]:
    answered = [
        ({"route": route, "method": method, "status": str(status)}, count)
        for (route, method, status), count in sorted(counters.requests.items())
    ]
    seconds = [({"route": route}, seconds) for route, seconds in sorted(counters.seconds.items())]
    yield Family(
        "luthier_requests_total", "counter", "Requests, by what answered them; status 0 had no answer.", answered
    )
    yield Family("luthier_request_seconds_total", "counter", "How long requests took together.", seconds)
    yield Family("luthier_requests_in_flight", "gauge", "Requests that are being answered.", [({}, counters.in_flight)])
    yield Family("luthier_uploaded_bytes_total", "counter", "Bytes of uploads.", [({}, counters.uploaded_bytes)])
    yield Family("luthier_stopping", "gauge", "1 once the server was told to stop.", [({}, int(counters.stopping))])


def _of_work(tokens: Tokens, jobs: Mapping[str, int], engines: Mapping[str, int]) -> Iterator[Family]:
    by_status = [({"status": status}, count) for status, count in sorted(jobs.items())]
    yield Family("luthier_jobs", "gauge", "Fine-tuning jobs, by status.", by_status)
    yield Family("luthier_prompt_tokens_total", "counter", "Tokens of prompts.", [({}, tokens.prompt)])
    yield Family("luthier_cached_tokens_total", "counter", "Those that were not computed anew.", [({}, tokens.cached)])
    yield Family("luthier_answer_tokens_total", "counter", "Tokens of answers.", [({}, tokens.answer)])
    for name, value in engines.items():
        yield Family(f"luthier_engine_{name}", "gauge", _ENGINE_HELP[name], [({}, value)])


def _text(family: Family) -> str:
    lines = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
    for labels, value in family.samples:
        told = ",".join(f'{name}="{label}"' for name, label in labels.items())
        lines.append(f"{family.name}{{{told}}} {value}" if told else f"{family.name} {value}")
    return "\n".join(lines) + "\n"
