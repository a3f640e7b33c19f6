"""A small real server of OpenAI's chat completions on this machine, for tests."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[dict], str | bytes]


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: dict


class ChatServer:
    """Answers with what `answer` makes of a request's body; `failures` are the statuses of the first requests."""

    def __init__(self, answer: Answer, failures: Sequence[tuple] = (), hang: bool = False) -> None:
        self.requests: list[Received] = []
        self.answer, self._failures = answer, list(failures)
        self._released = threading.Event()
        if not hang:
            self._released.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        """Stop answering."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append(Received(self.path, dict(self.headers), body))
                    failure = outer._failures.pop(0) if outer._failures else None
                outer._released.wait()
                if failure is not None:
                    status, headers, *said = failure
                    self._send(status, said[0] if said else b"not now", headers)
                    return
                answer = outer.answer(body)
                self._send(200, answer if isinstance(answer, bytes) else json.dumps(_completion(answer)).encode(), {})

            def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
                try:
                    self.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(data))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except BrokenPipeError:  # the client did not wait
                    pass

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


def answering(facts: Mapping[str, str]) -> Answer:
    """A model that knows nothing by itself: it reads `key: value` out of the context before the question, or says `unknown`."""

    def answer(body: dict) -> str:
        told = body["messages"][-1]["content"]
        return next((value for key, value in facts.items() if f"{key}: {value}" in told), "unknown")

    return answer


def judging(prefers: Callable[[str, str], str]) -> Answer:
    """A judge of pairs: `prefers` is given both answers as they stand in the prompt and says first, second or same."""

    def answer(body: dict) -> str:
        told = body["messages"][-1]["content"]
        first, second = (_between(told, f"the {place} answer") for place in ("first", "second"))
        return json.dumps({"reason": "so I find", "better": prefers(first, second)})

    return answer


def _between(told: str, name: str) -> str:
    head = f"--- {name} begins "
    seal, _, rest = told[told.index(head) + len(head) :].partition(" ---\n")
    return rest[: rest.index(f"\n--- {name} ends {seal} ---")]


def _completion(text: str) -> dict:
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5},
    }
