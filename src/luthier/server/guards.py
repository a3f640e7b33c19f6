"""What stands before every handler: who may call at all, who the caller is, and what is written down about it.

`Observed` is the outermost box: it numbers requests, counts them, writes one line each without content, and turns what
went wrong into an answer. `SameSite` refuses names that a browser was tricked into calling. `Authenticated` stands
before everything under /v1.
"""

import errno
import json
import logging
import re
import secrets
import time
from collections.abc import Iterable
from inspect import isfunction
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.server.control import Control
from luthier.server.errors import ApiError

log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WATCHED = ("/healthz", "/readyz", "/metrics")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_RESTART_SECONDS = 5
_MOST_HEADERS = 128
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Observed:
    """Gives every request a number, an answer and a line in the log."""

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self._app, self._control = app, control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        status, start, counters = 0, time.monotonic(), self._control.counters

        async def send_numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
                headers["cache-control"] = "no-store"
            await send(message)

        stopping = counters.stopping and scope["path"] not in _WATCHED
        counters.in_flight += 1
        try:
            if stopping:
                raise ApiError(503, "The server is stopping. Ask again.", code="stopping", retry_after=_RESTART_SECONDS)
            await self._app(scope, receive, send_numbered)
        except Exception as error:
            if not isinstance(error, ApiError):
                log.exception("request %s failed", request_id)
            if status:  # the answer has begun; all that is left is to break it off
                raise
            await answer(error)(scope, receive, send_numbered)
        finally:
            counters.in_flight -= 1
            route, method, seconds = _route(scope), _method(scope), time.monotonic() - start
            counters.note(route, method, status, seconds)
            log.info(_line(request_id, method, route, status, seconds))


class SameSite:
    """Answers only to the names that the server is known by, and to pages that it served itself."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if len(scope["headers"]) > _MOST_HEADERS:
                raise ApiError(431, f"The request has more than {_MOST_HEADERS} headers.", code="too_many_headers")
            headers = Headers(scope=scope)
            if _host(f"//{headers.get('host', '')}") not in self._hosts:
                raise ApiError(
                    421,
                    "This server is not known by that host name; its settings can add it to `hosts`.",
                    code="wrong_host",
                )
            origin = headers.get("origin")
            if origin is not None and _host(origin) not in self._hosts:
                raise ApiError(403, "Requests from pages of other sites are refused.", code="wrong_origin")
        await self._app(scope, receive, send)


class Authenticated:
    """Lets through who has a valid key, and says which one it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        control: Control = scope["app"].state.control
        scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        key = await run_in_threadpool(control.keys.holder, secret.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise ApiError(
                401,
                "Incorrect API key provided. Send one as 'Authorization: Bearer KEY'; make one with: luthier keys create",
                code="invalid_api_key",
            )  # fmt: skip
        scope["luthier_key"] = key
        await self._app(scope, receive, send)


def answer(error: Exception) -> Response:
    """Return the answer to what went wrong; of what only we can mend it says nothing."""
    if isinstance(error, ApiError):
        return error.response()
    if (isinstance(error, OSError) and error.errno in _FULL) or "disk is full" in str(error):
        return ApiError(507, "The server's disk is full; nothing was kept.", code="disk_full").response()
    return ApiError(500, "The server failed to answer; its log says why.", code="internal_error").response()


async def http_error(request: Request, error: Exception) -> Response:
    """Answer in OpenAI's form where there is no such address, or none for the method."""
    assert isinstance(error, HTTPException)
    path = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return ApiError(404, f"Unknown request URL: {path}.", code="unknown_url").response()
    answer = ApiError(error.status_code, f"{error.detail}: {path}.", code="method_not_supported").response()
    answer.headers["allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """Return the methods of an address, which several routes may share."""
    mounts = [route.routes for route in request.app.routes if isinstance(route, Mount)]
    routes = [route for routes in (request.app.routes, *mounts) for route in routes if isinstance(route, Route)]
    return {
        method for route in routes if route.matches(request.scope)[0] != Match.NONE for method in route.methods or ()
    }


def _route(scope: Scope) -> str:
    """Return the handler that was called, never the address, which holds ids."""
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return "unknown"
    handler = (
        endpoint if isfunction(endpoint) else type(endpoint)
    )  # a request that was refused at the door has met no function
    return f"{handler.__module__.rpartition('.')[2]}.{handler.__name__}"


def _method(scope: Scope) -> str:
    """Return the method if it is one: any word may stand there, and each that is counted stays in memory."""
    return scope["method"] if scope["method"] in _METHODS else "OTHER"


def _line(request_id: str, method: str, route: str, status: int, seconds: float) -> str:
    return json.dumps({
        "request": request_id, "method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1),
    })  # fmt: skip


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # an unclosed bracket
        return ""
