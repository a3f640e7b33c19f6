"""Stands in for a vLLM server where none can run: its documented addresses, and a text that tells who was asked what."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from luthier.core.types import JsonObject

KEY = "engine-key"


@dataclass
class Acting:
    """What it has been asked, and how it is to behave."""

    models: list[str]
    asked: list[tuple[str, JsonObject]] = field(default_factory=list)
    refusal: tuple[int, JsonObject] | None = None
    breaks_off: bool = False
    endless: bool = False
    calls_by_itself: bool = True  # --enable-auto-tool-choice
    left: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def bodies(self, path: str) -> list[JsonObject]:
        """The requests to one address."""
        return [body for asked, body in self.asked if asked == path]


@contextmanager
def acting(*models: str) -> Iterator[Acting]:
    """Serve for the length of a block."""
    told = Acting(list(models))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told.asked.append((self.path, {}))
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in told.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.asked.append((self.path, body))
            if self.headers["Authorization"] != f"Bearer {KEY}":
                self._send(401, {"error": "Unauthorized"})
            elif told.refusal is not None:
                self._send(*told.refusal)
            elif body.get("tool_choice") == "auto" and not told.calls_by_itself:
                fault = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
                self._send(400, {"error": {"message": fault}})
            elif self.path == "/v1/load_lora_adapter":
                self._load(body)
            elif self.path in ("/v1/chat/completions", "/v1/completions"):
                self._stream(body)
            else:
                self._send(404, {"detail": "Not Found"})

        def _load(self, body: JsonObject) -> None:
            if not (Path(str(body["lora_path"])) / "adapter_config.json").exists():
                self._send(404, {"error": {"message": "No adapter found"}})
                return
            told.models.append(str(body["lora_name"]))
            self._send(200, f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

        def _stream(self, body: JsonObject) -> None:
            if body["model"] not in told.models:
                self._send(404, {"error": {"message": "The model does not exist."}})
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for event in self._events(body):
                    self._chunk(b"data: " + event + b"\n\n")
                self._chunk(b"")
            except (BrokenPipeError, ConnectionResetError):
                told.left.set()

        def _calls(self, index: int, body: JsonObject) -> Iterator[bytes]:
            """Two calls in pieces; a call that was asked for by name says its name with each piece, as vLLM did for long."""
            choice = body["tool_choice"]
            named = choice["function"]["name"] if isinstance(choice, dict) else None  # type: ignore[index]
            for place, name in enumerate([named] if named else ["first", "second"]):
                pieces = [{"name": name, "arguments": ""}, {"arguments": '{"a": '}, {"arguments": "1}"}]
                for number, function in enumerate(pieces):
                    call = {"index": place, "function": function}
                    if not number or named:
                        call |= {
                            "id": f"chatcmpl-tool-{place}-{number}",
                            "type": "function",
                            "function": {"name": name, **function},
                        }
                    delta = {"tool_calls": [call]}
                    yield json.dumps({"choices": [{"index": index, "finish_reason": None, "delta": delta}]}).encode()
            yield self._event(index, "", "stop" if named else "tool_calls", False)

        def _events(self, body: JsonObject) -> Iterator[bytes]:
            plain = self.path == "/v1/completions"
            said = str(body["prompt"]) if plain else body["messages"][-1]["content"]  # type: ignore[index]
            while told.endless:
                time.sleep(0.01)  # as fast as a model writes
                yield self._event(0, "more ", None, plain)
            for index in range(body["n"]):  # type: ignore[arg-type]
                if body.get("tool_choice", "none") != "none":
                    yield from self._calls(index, body)
                    continue
                for piece in (str(body["model"]), " heard ", said):
                    yield self._event(index, piece, None, plain)
                if told.breaks_off:
                    return
                yield self._event(index, "", "length" if "max_tokens" in body else "stop", plain)
            usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
            yield json.dumps({"choices": [], "usage": usage}).encode()
            yield b"[DONE]"

        def _event(self, index: int, text: str, reason: str | None, plain: bool) -> bytes:
            piece = {"text": text} if plain else {"delta": {"content": text}}
            if text and not plain and told.asked[-1][1].get("logprobs"):
                piece["logprobs"] = {
                    "content": [{"token": text, "logprob": -0.5, "top_logprobs": [{"token": text, "logprob": -0.5}]}]
                }
            return json.dumps({"choices": [{"index": index, "finish_reason": reason, **piece}], "usage": None}).encode()

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        def _send(self, status: int, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
