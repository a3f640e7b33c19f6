"""The endpoint's client against a real server on this machine: what it sends, how patient it is, what it refuses."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from chat_server import ChatServer, answering

from luthier.config.settings import EndpointSettings
from luthier.core.endpoint import Client, Decoding, address
from luthier.core.errors import ResourceError, RunFailed, SettingsError
from luthier.core.types import Conversation, Message, Row
from luthier.data.normal import answer

DECODING = Decoding(max_new_tokens=7, temperature=0.5, top_p=0.9, seed=3)
ASKED = [Message("system", "Be brief."), Message("user", "Hello"), Message("user", "again", weight=0)]


@pytest.fixture
def server() -> Iterator[Callable[..., ChatServer]]:
    running: list[ChatServer] = []

    def start(**options) -> ChatServer:
        running.append(ChatServer(**options))
        return running[-1]

    yield start
    for one in running:
        one.close()


def client(server: ChatServer, pauses: list[float] | None = None, **settings) -> Client:
    endpoint = EndpointSettings(url=server.url, model="big", **{"timeout": 10, **settings})
    return Client(endpoint, DECODING, ([] if pauses is None else pauses).append)


def test_a_question_goes_out_as_the_protocol_has_it_and_its_answer_comes_back(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    running = server(answer=lambda body: "fine")
    reply = client(running, key_variable="MY_KEY").ask(ASKED)
    assert (reply.text, reply.finish_reason, reply.tokens_in, reply.tokens_out) == ("fine", "stop", 11, 5)
    (sent,) = running.requests
    assert sent.path == "/v1/chat/completions" and sent.headers["Authorization"] == "Bearer secret"
    assert sent.body == {
        "model": "big", "temperature": 0.5, "top_p": 0.9, "seed": 3, "max_tokens": 7,
        "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
            {"role": "user", "content": "again"},
        ],
    }  # fmt: skip


def test_tool_calls_carry_their_arguments_as_text(server):
    running = server(answer=lambda body: "ok")
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    tool = {"type": "function", "function": {"name": "add"}}
    client(running).ask([Message("user", "x"), Message("assistant", "", tool_calls=(call,))], [tool])
    body = running.requests[0].body
    assert body["tools"] == [tool]
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_an_answer_that_calls_tools_is_its_calls_as_rows_write_them(server):
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    said = [None, "Let me see."]
    message = {"role": "assistant", "tool_calls": [call]}
    running = server(
        answer=lambda body: json.dumps({"choices": [{"message": message | {"content": said.pop()}}]}).encode()
    )
    row = Row("r", "f", 1, 1, Conversation((Message("user", "x"), Message("assistant", "", tool_calls=(call,)))))
    asking = client(running)
    assert asking.ask(ASKED).text == f"Let me see.\n{answer(row)}"
    assert asking.ask(ASKED).text == answer(row)


def test_no_key_is_sent_where_none_is_set(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not for this server")
    running = server(answer=lambda body: "ok")
    client(running).ask(ASKED)
    assert "Authorization" not in running.requests[0].headers


def test_a_busy_server_is_asked_again_later_each_time(server):
    running = server(answer=lambda body: "at last", failures=[(429, {"Retry-After": "3"}), (503, {}), (500, {})])
    pauses: list[float] = []
    assert client(running, pauses).ask(ASKED).text == "at last"
    assert pauses == [3.0, 1.0, 2.0]
    assert len(running.requests) == 4


def test_patience_ends_and_the_last_reason_is_told(server):
    running = server(answer=lambda body: "never", failures=[(503, {})] * 9)
    pauses: list[float] = []
    with pytest.raises(RunFailed, match=r"did not answer after 3 attempts: status 503"):
        client(running, pauses, retries=2).ask(ASKED)
    assert len(pauses) == 2


def test_a_server_that_is_away_or_slow_is_a_clear_error(server):
    running = server(answer=lambda body: "x")
    address_of_none = running.url
    running.close()
    endpoint = EndpointSettings(url=address_of_none, model="big", retries=1, timeout=5)
    with pytest.raises(RunFailed, match=r"did not answer after 2 attempts: .*refused"):
        Client(endpoint, DECODING, lambda seconds: None).ask(ASKED)
    silent = server(answer=lambda body: "late", hang=True)
    with pytest.raises(RunFailed, match=r"did not answer after 1 attempts: .*[Tt]ime"):
        client(silent, retries=0, timeout=0.2).ask(ASKED)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ((401, {}), "status 401: .*environment variable LUTHIER_ENDPOINT_KEY"),
        ((404, {}), r"status 404: .*compare\.endpoint\.model \(big\)"),
        ((307, {"Location": "http://127.0.0.1:1/v1/chat/completions"}), "status 307: .*redirect is not followed"),
    ],
)
def test_what_does_not_pass_by_itself_is_not_tried_again(server, failure, words: str):
    running = server(answer=lambda body: "x", failures=[failure])
    with pytest.raises(RunFailed, match=words):
        client(running).ask(ASKED)
    assert len(running.requests) == 1


@pytest.mark.parametrize(
    "raw", [b"<html>hello</html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"[1]"]
)
def test_an_answer_in_another_shape_is_a_clear_error(server, raw: bytes):
    with pytest.raises(RunFailed, match="not as OpenAI's chat completions do"):
        client(server(answer=lambda body: raw)).ask(ASKED)


def test_an_answer_cut_off_and_without_counts(server):
    body = {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}
    reply = client(server(answer=lambda _: json.dumps(body).encode())).ask(ASKED)
    assert (reply.text, reply.finish_reason, reply.tokens_in) == ("", "length", None)


def test_a_model_that_wants_the_newer_name_of_the_limit_gets_it(server):
    words = b"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    running = server(answer=lambda body: "ok", failures=[(400, {}, words)])
    assert client(running).ask(ASKED).text == "ok"
    assert "max_tokens" not in running.requests[1].body and running.requests[1].body["max_completion_tokens"] == 7


def test_the_budget_of_requests_holds_over_threads(server):
    running = server(answer=lambda body: "ok")
    one = client(running, requests=5)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(one.ask, ASKED) for _ in range(9)]
    failed = [future.exception() for future in asked if future.exception()]
    assert len(running.requests) == 5 and len(failed) == 4
    assert all(isinstance(error, ResourceError) and "budget of 5 requests" in str(error) for error in failed)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "needs an address and a model"), ("localhost:8000/v1", "is no address"), ("file:///etc/passwd", "is no address"),
        ("https://me:pass@host/v1", "holds a password"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused(url: str | None, words: str):
    with pytest.raises(SettingsError, match=words):
        address(EndpointSettings(url=url, model="big"))


def test_an_address_may_end_with_or_without_the_path():
    for url in ("http://host/v1", "http://host/v1/", "http://host/v1/chat/completions"):
        assert address(EndpointSettings(url=url, model="m")) == ("http://host/v1/chat/completions", "m")


def test_the_server_of_these_tests_reads_the_answer_out_of_the_context():
    assert (
        answering({"river": "Danube"})({"messages": [{"role": "user", "content": "Context:\n[1] river: Danube"}]})
        == "Danube"
    )
