"""A client of OpenAI's chat completions, as many programs serve them: plain HTTP with a timeout, a budget and patience.

What passes by itself (a full queue, a restart, a lost connection) is tried again, later each time; what does not is an
error at once. The key comes from an environment variable and goes nowhere but to the address that the user named:
a redirect is refused, because it could lead the key elsewhere.
"""

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.message import Message as Headers
from http.client import HTTPException
from typing import IO, Protocol
from urllib.parse import urlsplit

from luthier.core.errors import ResourceError, RunFailed, SettingsError
from luthier.core.hashing import canonical_json
from luthier.core.types import FinishReason, JsonObject, JsonValue, Message

_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
_SHOWN = 300


class Access(Protocol):
    """Where a model is asked, and how patiently; `section` is what the user's settings call it, for errors."""

    @property
    def section(self) -> str: ...
    @property
    def url(self) -> str | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def key_variable(self) -> str: ...
    @property
    def requests(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def retries(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What the endpoint answered; tokens are None where it did not count them."""

    text: str
    finish_reason: FinishReason
    tokens_in: int | None
    tokens_out: int | None
    seconds: float


@dataclass(frozen=True)
class Decoding:
    """How every arm of a run decodes."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


class Client:
    """Asks one model at one address; may be used from several threads. `requests` counts what was sent."""

    def __init__(self, settings: Access, decoding: Decoding, pause: Callable[[float], None] = time.sleep) -> None:
        self._settings, self._decoding, self._pause = settings, decoding, pause
        self._url, self._model = address(settings)
        self._key = os.environ.get(settings.key_variable)
        self._opener = urllib.request.build_opener(NoRedirect())
        self._lock = threading.Lock()
        self._length_key = "max_tokens"
        self._takes_format = True
        self.requests = 0

    def ask(
        self, messages: Sequence[Message], tools: Sequence[JsonObject] = (), schema: JsonObject | None = None
    ) -> Reply:
        """Return the answer to a conversation; raise RunFailed where there is none, ResourceError where the budget is used up.

        A server that can is held to the JSON `schema`; one that refuses it by name is asked without.
        """
        reason = ""
        for attempt in range(self._settings.retries + 1):
            sent = self._sent(messages, tools, schema)
            if isinstance(sent, Reply):
                return sent
            reason = sent.reason
            if attempt < self._settings.retries:
                self._pause(min(_LONGEST_PAUSE, max(sent.wait, _FIRST_PAUSE * 2**attempt)))
        raise RunFailed(
            f"{self._url} did not answer after {self._settings.retries + 1} attempts: {reason}. Answers so far are kept; "
            "see that the server runs, then call the same command again."
        )

    def _sent(
        self, messages: Sequence[Message], tools: Sequence[JsonObject], schema: JsonObject | None
    ) -> "Reply | _Refused":
        self._count()
        started = time.monotonic()
        body = self._body(messages, tools, schema)
        request = urllib.request.Request(  # noqa: S310 - `address` lets only http and https through
            self._url, json.dumps(body).encode(), self._headers(), method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._settings.timeout) as response:
                data = response.read()
        except urllib.error.HTTPError as error:
            return self._refusal(error, body)
        except (OSError, HTTPException) as error:
            return _Refused(f"{type(error).__name__}: {error}")
        return _reply(data, self._url, time.monotonic() - started)

    def _count(self) -> None:
        with self._lock:
            if self.requests >= self._settings.requests:
                raise ResourceError(
                    f"the budget of {self._settings.requests:,} requests to {self._url} is used up. Answers so far are kept; to go "
                    f"on, raise {self._settings.section}.requests."
                )
            self.requests += 1

    def _body(self, messages: Sequence[Message], tools: Sequence[JsonObject], schema: JsonObject | None) -> JsonObject:
        decoding = self._decoding
        body: JsonObject = {
            "model": self._model, "messages": [_plain(message) for message in messages], "temperature": decoding.temperature,
            "top_p": decoding.top_p, "seed": decoding.seed, self._length_key: decoding.max_new_tokens,
        }  # fmt: skip
        if tools:
            body["tools"] = [*tools]
        if schema is not None and self._takes_format:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return body

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "luthier"}
        return {**headers, "Authorization": f"Bearer {self._key}"} if self._key else headers

    def _refusal(self, error: urllib.error.HTTPError, body: JsonObject) -> "_Refused":
        """Return why an answer may still come, or raise RunFailed where it will not."""
        said = error.read().decode("utf-8", "replace")[:_SHOWN]
        if error.code in _PASSING:
            return _Refused(f"status {error.code}: {said}", _wait(error.headers))
        if error.code in (400, 422) and self._can_do_without(said, body):
            return _Refused(f"status {error.code}: {said}")
        advice = (
            f"Put the key into the environment variable {self._settings.key_variable}." if error.code in (401, 403)
            else "A redirect is not followed, for the key would go along; name the final address." if error.code < 400
            else f"Look at {self._settings.section}.url and {self._settings.section}.model ({self._model})."
        )  # fmt: skip
        raise RunFailed(f"{self._url} answered with status {error.code}: {said} {advice}")

    def _can_do_without(self, said: str, body: JsonObject) -> bool:
        """Leave out or rename what the server named and does not know; tell whether asking again may help."""
        if "max_completion_tokens" in said and "max_tokens" in body:
            self._length_key = "max_completion_tokens"  # what newer models of OpenAI call it
            return True
        if "response_format" in said and "response_format" in body:
            self._takes_format = False
            return True
        return False


def address(settings: Access) -> tuple[str, str]:
    """Return the full address of the chat completions and the model; raise SettingsError where one is missing or wrong."""
    if not settings.url or not settings.model:
        raise SettingsError(
            "the arm endpoint needs an address and a model: --endpoint https://host/v1 --endpoint-model NAME "
            "(compare.endpoint.url and compare.endpoint.model)."
        )
    parts = urlsplit(settings.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{settings.section}.url: {settings.url} is no address; expected http://... or https://...")
    if parts.username or parts.password:
        raise SettingsError(
            f"{settings.section}.url holds a password, which would be written to the run; take it out and put the key into the "
            f"environment variable {settings.key_variable}."
        )
    url = settings.url.rstrip("/")
    return (url if url.endswith("/chat/completions") else f"{url}/chat/completions"), settings.model


@dataclass(frozen=True)
class _Refused:
    """Why a request has no answer yet, and how many seconds the server asks to wait."""

    reason: str
    wait: float = field(default=0.0)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which could lead a key elsewhere."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Headers, newurl: str
    ) -> None:
        """Follow nothing; the status becomes an error."""


def _plain(message: Message) -> JsonObject:
    """Return a message as the protocol has it, without what only training needs."""
    kept = {"role", "content", "tool_calls", "tool_call_id", "name"}
    plain = {key: value for key, value in message.as_dict().items() if key in kept}
    if message.tool_calls:
        plain["tool_calls"] = [_call(call) for call in message.tool_calls]
    return plain


def _call(call: JsonObject) -> JsonObject:
    """Return a tool call with its arguments as text, which is how the protocol wants them."""
    function = call.get("function")
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(function.get("arguments"), ensure_ascii=False)}}


def _wait(headers: Headers) -> float:
    """Return the seconds that the server asks for; a date instead of seconds counts as none."""
    try:
        return max(0.0, float(headers.get("Retry-After") or 0))
    except ValueError:
        return 0.0


def _reply(data: bytes, url: str, seconds: float) -> Reply:
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        text, calls = choice["message"].get("content") or "", choice["message"].get("tool_calls")
        if calls:  # as rows write an answer that calls tools
            text = "\n".join(filter(None, [text, canonical_json(calls)]))
        tokens_in, tokens_out = (_count(body.get("usage"), key) for key in ("prompt_tokens", "completion_tokens"))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunFailed(
            f"{url} answered, but not as OpenAI's chat completions do: {data[:_SHOWN].decode('utf-8', 'replace')!r}. Is the "
            "address that of an OpenAI-compatible server, up to /v1?"
        ) from error
    finish: FinishReason = "length" if choice.get("finish_reason") == "length" else "stop"
    return Reply(str(text), finish, tokens_in, tokens_out, seconds)


def _count(usage: JsonValue, key: str) -> int | None:
    found = usage.get(key) if isinstance(usage, dict) else None
    return found if isinstance(found, int) else None
