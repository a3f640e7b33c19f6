"""vLLM in the place of an engine's process: asked over HTTP, with what an engine's process would say as the answer.

Only these addresses are called, and every body is written here from what was checked before; nothing that a client
sent is handed on as it came. An adapter is pushed once it is first asked for, by vLLM's `load_lora_adapter`, which
reads it from a folder that both see, and asked for only when vLLM lists it.
"""

import itertools
import json
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import cast
from urllib.parse import urlsplit

from luthier.core.errors import DataError, LuthierError, ModelError, SettingsError
from luthier.core.types import JsonObject, JsonValue
from luthier.generate.client import Answer, Ask, EngineDied, EngineSpec, Inbox
from luthier.generate.request import QueueFull, Sampling, ToolChoice
from luthier.models.inspection import check_adapter

_CHAT, _PLAIN, _MODELS, _LOAD = "/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/load_lora_adapter"
_CONNECT_SECONDS = 10.0
_LOAD_SECONDS = 120.0
_FRESH_SECONDS = 30.0
_LONGEST_LINE = 4 << 20
_LONGEST_BODY = 1 << 20
_LONGEST_FAULT = 300
_UNBOUNDED = 1 << 30


@dataclass
class _Written:
    """What is known of an answer while it streams; the ends are told last, as the tokens are counted last."""

    request: str
    reasons: dict[int, str] = field(default_factory=dict[int, str])
    called: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    tokens_in: int = 0
    cached: int = 0
    tokens_out: int = 0


class RemoteEngine:
    """One base model behind a vLLM server; safe to use from several threads."""

    pid: int | None = None  # there is no process of ours

    def __init__(self, url: str, spec: EngineSpec, *, key: str = "", silence_seconds: float = 120.0) -> None:
        self._address, self._spec, self._key, self.silence_seconds = address(url), spec, key, silence_seconds
        self.heard = time.monotonic()
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._open: dict[str, HTTPConnection | None] = {}
        self._left: set[str] = set()
        self._listed: dict[str, str] = {}
        self._looked = float("-inf")
        self._numbers = itertools.count()

    def start(self) -> None:
        """See that the server answers and has the base model; raise EngineDied or ModelError."""
        if time.monotonic() - self._looked > _FRESH_SECONDS:
            self._look()
        if self._spec.name not in self._listed:
            self._looked = float("-inf")
            raise ModelError(
                f"the engine at {self._where} serves {', '.join(sorted(self._listed)) or 'nothing'}, not {self._spec.name}. "
                f"Start it with: vllm serve MODEL --served-model-name {self._spec.name}"
            )

    def ask(self, ask: Ask, inbox: Inbox | None = None) -> Answer:
        """Send a request; its errors come with the answer. Raises QueueFull where as many are asked as may be."""
        answer = Answer(self, str(next(self._numbers)), ask.sampling.n, None, inbox)
        with self._lock:
            if len(self._open) >= self._spec.max_rows + self._spec.max_waiting:
                raise QueueFull(f"{len(self._open)} requests are with the engine already. Try again later.")
            self._open[answer.id] = None
        threading.Thread(target=self._converse, args=(ask, answer), daemon=True).start()
        return answer

    def stats(self) -> JsonObject:
        """Return how many requests are with the server; what it makes of them its own /metrics tells."""
        return {"running": len(self._open), "waiting": 0}

    def tell(self, message: JsonObject) -> None:
        """Cancel a request, by leaving: vLLM ends what nobody waits for."""
        name = str(message["id"])
        with self._lock:
            connection = self._open.get(name)
            if name in self._open and connection is None:
                self._left.add(name)
        if connection is not None:
            _leave(connection)

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """Do nothing: the server is not ours to end, and a request ends by its own time limit."""

    def close(self) -> None:
        """Leave all requests."""
        with self._lock:
            connections = [connection for connection in self._open.values() if connection is not None]
        for connection in connections:
            _leave(connection)

    @property
    def _where(self) -> str:
        scheme, host, port = self._address
        return f"{scheme}://{host}:{port}"

    def _converse(self, ask: Ask, answer: Answer) -> None:
        """Ask, and say what comes back as an engine's process would; the end of a thread."""
        try:
            self._push(ask)
            with self._requested(*_body(self._spec, ask), seconds=self.silence_seconds, name=answer.id) as response:
                for message in _messages(response, _Written(answer.id), ask):
                    self.heard = time.monotonic()
                    answer.inbox.put(message)
        except LuthierError as error:
            answer.inbox.put(error)
        except (OSError, HTTPException, ValueError, AttributeError) as error:  # a connection that is left has no socket
            answer.inbox.put(EngineDied(f"the engine at {self._where} broke off ({type(error).__name__}). Ask again."))
        finally:
            with self._lock:
                self._open.pop(answer.id, None)
                self._left.discard(answer.id)

    def _push(self, ask: Ask) -> None:
        """Have an adapter loaded that is not there yet; raise ModelError where it cannot be."""
        if ask.adapter is None or ask.adapter_folder is None:
            return
        with self._loading:
            if self._listed.get(ask.adapter) == str(ask.adapter_folder):
                return
            check_adapter(ask.adapter_folder)
            self._look()
            if ask.adapter not in self._listed:
                wanted: JsonObject = {"lora_name": ask.adapter, "lora_path": str(ask.adapter_folder)}
                with self._requested(_LOAD, wanted, seconds=_LOAD_SECONDS) as response:
                    response.read(_LONGEST_BODY)
                self._look()
            if ask.adapter not in self._listed:
                raise ModelError(
                    f"the engine at {self._where} took the adapter {ask.adapter_folder} and does not list it."
                )
            self._listed[ask.adapter] = str(ask.adapter_folder)

    def _look(self) -> None:
        """Ask which models there are: the base, and the adapters that were pushed before."""
        with self._requested(_MODELS, None, seconds=_CONNECT_SECONDS) as response:
            listed = json.loads(response.read(_LONGEST_BODY))
        data = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(data, list):
            raise ModelError(f"the engine at {self._where} lists no models; is it vLLM's OpenAI-compatible server?")
        names = [str(one["id"]) for one in data if isinstance(one, dict) and "id" in one]
        self._listed = {name: self._listed.get(name, "") for name in names}
        self._looked = time.monotonic()

    def _requested(self, path: str, body: JsonObject | None, *, seconds: float, name: str = "") -> "_Exchange":
        scheme, host, port = self._address
        kind = HTTPSConnection if scheme == "https" else HTTPConnection
        connection = kind(host, port, timeout=_CONNECT_SECONDS)
        if name:
            with self._lock:
                self._open[name] = connection
                if name in self._left:
                    raise EngineDied("the request was left before it was sent.")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            connection.connect()
            connection.sock.settimeout(seconds)
            connection.request(
                "GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers
            )
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            raise EngineDied(
                f"the engine at {self._where} does not answer ({type(error).__name__}). Ask again."
            ) from error
        if response.status != 200:
            text = response.read(_LONGEST_BODY)
            connection.close()
            if response.status == 404:  # started anew, perhaps: what it has is to be looked at again
                self._looked, self._listed = float("-inf"), {}
            raise _refusal(response.status, _said(text), self._where)
        return _Exchange(connection, response)


class _Exchange:
    """A response that is read, and whose connection is closed behind it."""

    def __init__(self, connection: HTTPConnection, response: HTTPResponse) -> None:
        self._connection, self._response = connection, response

    def __enter__(self) -> HTTPResponse:
        return self._response

    def __exit__(self, *error: object) -> None:
        self._connection.close()


def address(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an engine's URL; raise SettingsError for one that is more or less than that."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise SettingsError(f"engine_url: {url!r} is no address: {error}.") from error
    more = (
        parts.query or parts.fragment or parts.username or parts.password or parts.path not in ("", "/", "/v1", "/v1/")
    )
    if parts.scheme not in ("http", "https") or not parts.hostname or more:
        raise SettingsError(f"engine_url: {url!r} cannot be used; expected an address such as http://127.0.0.1:8001.")
    return parts.scheme, parts.hostname, port


def _body(spec: EngineSpec, ask: Ask) -> tuple[str, JsonObject]:
    """Return where to ask, and what."""
    sampling = ask.sampling
    body: JsonObject = {
        "model": ask.adapter or spec.name, "n": sampling.n, "temperature": sampling.temperature, "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty, "frequency_penalty": sampling.frequency_penalty, "stream": True,
        "stream_options": {"include_usage": True}, **_limits(sampling),
    }  # fmt: skip
    if ask.prompt is not None:
        if sampling.logprobs is not None:
            body["logprobs"] = sampling.logprobs
        return _PLAIN, body | {"prompt": ask.prompt}
    body["messages"] = [dict(message) for message in ask.messages]
    if ask.tools:
        body |= {"tools": [dict(tool) for tool in ask.tools], **_choice(ask.tool_choice)}
    if sampling.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    if spec.enable_thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": spec.enable_thinking}
    match ask.constraint:
        case {"json": True}:
            body["response_format"] = {"type": "json_object"}
        case {"schema": dict(schema)}:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": True},
            }
        case _:
            pass
    return _CHAT, body


def _choice(choice: ToolChoice | None) -> JsonObject:
    """Return how tools are to be called, in the words of the API."""
    if choice is None:
        return {"tool_choice": "none"}
    parallel: JsonObject = {} if choice.parallel else {"parallel_tool_calls": False}
    if choice.name is not None:
        return {"tool_choice": {"type": "function", "function": {"name": choice.name}}, **parallel}
    return {"tool_choice": "required" if choice.required else "auto", **parallel}


def _limits(sampling: Sampling) -> JsonObject:
    limits: JsonObject = {}
    if sampling.max_tokens < _UNBOUNDED:
        limits["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        limits["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        limits["seed"] = sampling.seed
    return limits


def _messages(response: HTTPResponse, written: _Written, ask: Ask) -> Iterator[JsonObject]:
    """Yield what an engine's process would say for the events of a stream."""
    for event in _events(response):
        if "error" in event:
            raise EngineDied(f"the engine ended the answer: {_fault(event)}. Ask again.")
        usage = event.get("usage")
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details") or {}
            written.tokens_in, written.tokens_out = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
            written.cached = _count(cast(JsonObject, details), "cached_tokens")
        for choice in cast("list[JsonObject]", event.get("choices") or []):
            yield from _piece(choice, written, plain=ask.prompt is not None)
    if len(written.reasons) < ask.sampling.n:
        raise EngineDied("the engine's answer broke off. Ask again.")
    # How many tokens there were is told for all choices together; the first one carries them.
    counted: list[JsonValue] = [0] * written.tokens_out
    for place, (index, reason) in enumerate(sorted(written.reasons.items())):
        yield {
            "tell": "end", "id": written.request, "choice": index, "reason": reason, "tokens_in": written.tokens_in,
            "cached": written.cached, "ids": [] if place else counted, "error": None,
        }  # fmt: skip


def _events(response: HTTPResponse) -> Iterator[JsonObject]:
    """Yield the objects of a stream of server-sent events; one that ends without saying so has broken off."""
    while line := response.readline(_LONGEST_LINE):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        event = json.loads(data)
        if not isinstance(event, dict):
            raise ValueError("an event of the stream is no object")
        yield event
    raise EngineDied("the engine's answer broke off. Ask again.")


def _piece(choice: JsonObject, written: _Written, *, plain: bool) -> Iterator[JsonObject]:
    index = _count(choice, "index")
    delta = choice.get("delta")
    text = choice.get("text") if plain else delta.get("content") if isinstance(delta, dict) else None
    tokens = _tokens(choice.get("logprobs"), plain=plain)
    calls = _calls(delta.get("tool_calls"), index, written.called) if isinstance(delta, dict) else []
    if text or tokens or calls:
        yield {
            "tell": "delta", "id": written.request, "choice": index, "text": str(text or ""), "tokens": tokens, "calls": calls,
        }  # fmt: skip
    if reason := choice.get("finish_reason"):
        ended = "tool_calls" if any(choice == index for choice, _ in written.called) else "stop"
        written.reasons[index] = "length" if reason == "length" else ended


def _calls(value: JsonValue, choice: int, called: set[tuple[int, int]]) -> list[JsonValue]:
    """Return pieces of tool calls as an engine's process writes them: place, id, name, arguments; id and name come once."""
    pieces: list[JsonValue] = []
    for piece in cast("list[JsonObject]", value or []):
        function, index = cast(JsonObject, piece.get("function") or {}), _count(piece, "index")
        head: list[JsonValue] = [None, None]
        if (choice, index) not in called:  # vLLM repeats the name with each piece of a call that was asked for by name
            called.add((choice, index))
            head = [str(piece.get("id") or f"call_{secrets.token_hex(12)}"), str(function.get("name") or "")]
        pieces.append([index, *head, str(function.get("arguments") or "")])
    return pieces


def _tokens(value: JsonValue, *, plain: bool) -> list[JsonValue]:
    """Return log-probabilities as an engine's process writes them: text, logarithm, the likeliest in its place."""
    if not isinstance(value, dict):
        return []
    if plain:
        columns = [
            cast("list[JsonValue]", value.get(name) or []) for name in ("tokens", "token_logprobs", "top_logprobs")
        ]
        tops = columns[2] or [{}] * len(columns[0])
        return [
            [text, logprob, [[other, log] for other, log in cast(JsonObject, top or {}).items()]]
            for text, logprob, top in zip(columns[0], columns[1], tops)
        ]
    content = cast("list[JsonObject]", value.get("content") or [])
    return [
        [
            one["token"],
            one["logprob"],
            [[top["token"], top["logprob"]] for top in cast("list[JsonObject]", one.get("top_logprobs") or [])],
        ]
        for one in content
    ]


def _refusal(status: int, said: str, where: str) -> LuthierError:
    """Return the error that stands for what the server refused."""
    match status:
        case 400 | 413 | 422:
            return DataError(f"the engine refused the request: {said}")
        case 404:
            return EngineDied(f"the engine at {where} has lost a model that it had. Ask again.")
        case 429 | 503:
            return QueueFull("the engine has more requests than it takes. Try again later.")
        case 401 | 403:
            return ModelError(f"the engine at {where} refuses the server's key; give it in LUTHIER_ENGINE_KEY.")
        case _:
            return EngineDied(f"the engine at {where} failed with status {status}: {said} Ask again.")


def _said(text: bytes) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text.decode("utf-8", "replace")[:_LONGEST_FAULT]
    return _fault(value) if isinstance(value, dict) else str(value)[:_LONGEST_FAULT]


def _fault(value: JsonObject) -> str:
    error = value.get("error", value)
    return str(error.get("message", error) if isinstance(error, dict) else error)[:_LONGEST_FAULT]


def _count(value: JsonObject, name: str) -> int:
    found = value.get(name)
    return found if isinstance(found, int) else 0


def _leave(connection: HTTPConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)
