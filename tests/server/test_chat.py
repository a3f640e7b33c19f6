"""Answers over the API, asked for with the official client: whole and streamed, and every way in which they go wrong."""

import json
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import openai
import psutil
import pytest
from openai import OpenAI
from serving import Served, mint, running

pytestmark = pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)
ASKED = {"model": "starter", "messages": [{"role": "user", "content": "What colour is the sky?"}], "seed": 1}
LONG = ASKED | {"max_tokens": 1500, "temperature": 2.0, "stop": ["\0"], "logit_bias": {}}


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = {"engines": 1, "answers": 4, "waiting": 6, "models": {"gpt-4o-mini": "starter", "lost": "no/where"}}
    with running(tmp_path_factory.mktemp("chat") / "data", settings) as served:
        yield served


@pytest.fixture(scope="module")
def client(chatting: Served) -> OpenAI:
    return chatting.client()


def figures(served: Served) -> dict[str, float]:
    """The gauges of the engines."""
    lines = str(served.call("GET", "/metrics")[1]["text"]).splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if line.startswith("luthier_engine"))}


def engine(served: Served) -> psutil.Process:
    """The one process that answers."""
    children = psutil.Process(served.process.pid).children()
    (found,) = [child for child in children if "luthier.generate.worker" in child.cmdline()]
    return found


def test_a_chat_is_answered_the_same_whole_and_in_pieces(client: OpenAI):
    whole = client.chat.completions.create(**ASKED, max_completion_tokens=12)
    assert whole.model == "starter" and whole.usage and whole.usage.prompt_tokens > 4
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason in ("stop", "length")
    asked = ASKED | {"max_completion_tokens": 12, "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(**asked))
    assert chunks[0].choices[0].delta.role == "assistant" and {chunk.id for chunk in chunks} == {chunks[0].id}
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert len(pieces) > 3 and "".join(pieces) == choice.message.content
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert chunks[-1].usage.completion_tokens <= 12


def test_choices_seeds_and_stops_are_kept(client: OpenAI):
    many = client.chat.completions.create(**ASKED, n=3, max_tokens=8, temperature=1.5)
    texts = [choice.message.content for choice in many.choices]
    assert [choice.index for choice in many.choices] == [0, 1, 2] and len(set(texts)) > 1
    again = client.chat.completions.create(**ASKED, n=3, max_tokens=8, temperature=1.5)
    assert [choice.message.content for choice in again.choices] == texts
    whole = str(client.chat.completions.create(**ASKED, max_tokens=12, temperature=0).choices[0].message.content)
    at = len(whole) // 2
    cut = client.chat.completions.create(**ASKED, max_tokens=12, temperature=0, stop=[whole[at : at + 3], "\0"])
    assert cut.choices[0].message.content == whole[: whole.find(whole[at : at + 3])]
    assert cut.choices[0].finish_reason == "stop"


def test_log_probabilities_are_those_of_the_pieces(client: OpenAI):
    asked = ASKED | {"max_tokens": 5, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.logprobs is not None and choice.logprobs.content
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 3 and token.top_logprobs[0].logprob == token.logprob <= 0
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1.0001
        assert bytes(token.bytes or []).decode() == token.token
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
    chunks = list(client.chat.completions.create(**asked, stream=True))
    streamed = [token for chunk in chunks if (logs := chunk.choices[0].logprobs) for token in logs.content or []]
    assert streamed == choice.logprobs.content


def test_answers_are_held_to_json_and_to_a_schema(client: OpenAI):
    schema = {
        "type": "object", "required": ["colour", "sure"], "additionalProperties": False,
        "properties": {"colour": {"enum": ["red", "blue"]}, "sure": {"type": "boolean"}},
    }  # fmt: skip
    held = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    free = client.chat.completions.create(**ASKED, temperature=0, max_tokens=40).choices[0].message.content
    text = client.chat.completions.create(**ASKED, temperature=0, response_format=held).choices[0].message.content
    value = json.loads(str(text))
    assert value["colour"] in ("red", "blue") and isinstance(value["sure"], bool) and text != free
    any_object = client.chat.completions.create(
        **ASKED, temperature=0, max_tokens=4, response_format={"type": "json_object"}
    )
    assert str(any_object.choices[0].message.content).lstrip().startswith("{")


def test_the_parser_of_the_client_gets_its_object(client: OpenAI):
    import pydantic

    class Sky(pydantic.BaseModel):
        blue: bool

    parsed = client.chat.completions.parse(**ASKED, response_format=Sky)
    assert isinstance(parsed.choices[0].message.parsed, Sky)


def test_texts_go_on_as_plain_completions(chatting: Served):
    client = chatting.client()
    whole = client.completions.create(model="starter", prompt="The sky is", max_tokens=6, temperature=0, logprobs=2)
    choice = whole.choices[0]
    assert choice.text and choice.logprobs and choice.logprobs.tokens and choice.logprobs.text_offset
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.text_offset[:2] == [0, len(choice.logprobs.tokens[0])]
    loose = OpenAI(base_url=chatting.url, api_key=chatting.key)  # OpenAI's own pieces have no reason either
    pieces = loose.completions.create(model="starter", prompt="The sky is", max_tokens=6, temperature=0, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == choice.text


def test_the_model_map_is_followed_and_told(client: OpenAI):
    mapped = client.chat.completions.create(**ASKED | {"model": "gpt-4o-mini"}, max_tokens=5)
    plain = client.chat.completions.create(**ASKED, max_tokens=5)
    assert mapped.model == "starter" and mapped.choices[0].message.content == plain.choices[0].message.content


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"model": "gpt-17"}, 404, "model_not_found", "model"),
        ({"model": "../../etc"}, 404, "model_not_found", "model"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        ({"messages": [{"role": "boss", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": 3}]}, 400, "invalid_value", "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400, "invalid_value", "messages[0].content"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, "context_length_exceeded", "messages"),
        ({"temperature": 3}, 400, "invalid_value", "temperature"),
        ({"n": 0}, 400, "invalid_value", "n"),
        ({"n": 5}, 400, "invalid_value", "n"),
        ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
        ({"stop": [""]}, 400, "invalid_value", "stop"),
        ({"stop": ["a", 1]}, 400, "invalid_value", "stop[1]"),
        ({"top_logprobs": 2}, 400, "invalid_value", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, 400, "invalid_value", "stream_options"),
        ({"logit_bias": {"1": 5}}, 400, "not_supported", "logit_bias"),
        ({"functions": [{"name": "f"}]}, 400, "not_supported", "functions"),
        ({"tool_choice": "required", "tools": []}, 400, "invalid_value", "tool_choice"),
        ({"response_format": {"type": "xml"}}, 400, "invalid_value", "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}}, 400, "invalid_value", "response_format"),
        ({"extra_body": {"top_k": 3}}, 400, "unknown_parameter", "top_k"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_request_is_refused_before_anything_is_sent(
    client: OpenAI, changes: dict, status: int, code: str, param: str | None, stream: bool
):
    if stream and "stream_options" in changes:
        pytest.skip("right with a stream")
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**ASKED | {"stream": stream} | changes)
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (status, code, param)
    assert caught.value.request_id


def test_a_model_that_cannot_be_loaded_is_said_without_its_place(client: OpenAI):
    with pytest.raises(openai.InternalServerError, match="cannot be loaded") as caught:
        client.chat.completions.create(**ASKED | {"model": "lost"})
    assert caught.value.code == "model_unavailable" and "no/where" not in str(caught.value)
    assert client.chat.completions.create(**ASKED, max_tokens=2).choices


def test_tools_are_shown_to_the_model(client: OpenAI):
    tool = {"type": "function", "function": {"name": "sky", "parameters": {"type": "object", "properties": {}}}}
    plain = client.chat.completions.create(**ASKED, max_tokens=2)
    shown = client.chat.completions.create(**ASKED, max_tokens=2, tools=[tool])
    hidden = client.chat.completions.create(**ASKED, max_tokens=2, tools=[tool], tool_choice="none")
    assert plain.usage and shown.usage and hidden.usage
    assert hidden.usage.prompt_tokens == plain.usage.prompt_tokens < shown.usage.prompt_tokens


def test_streams_at_the_same_time_get_what_each_gets_alone(client: OpenAI):
    asked = [ASKED | {"messages": [{"role": "user", "content": word}]} for word in ("red", "blue", "green", "black")]

    def text(one: dict) -> str:
        chunks = client.chat.completions.create(**one, temperature=0, max_tokens=10, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    alone = [text(one) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(text, asked)) == alone


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(chatting: Served, stream: bool):
    body = json.dumps(LONG | {"stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {chatting.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", chatting.port), timeout=30)
    connection.sendall(head.encode() + body)
    if stream:
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    deadline = time.monotonic() + 20
    while not figures(chatting)["luthier_engine_requests"] and time.monotonic() < deadline:
        continue
    assert figures(chatting)["luthier_engine_requests"] == 1
    connection.close()
    since = time.monotonic()
    while figures(chatting)["luthier_engine_requests"] or figures(chatting)["luthier_engine_rows"]:
        assert time.monotonic() < since + 5


def test_a_full_queue_says_when_to_come_again(chatting: Served):
    def status(number: int) -> tuple[int, str | None]:
        code, _, headers = chatting.call("POST", "/v1/chat/completions", json.dumps(LONG | {"max_tokens": 60}).encode())
        return code, headers.get("retry-after")

    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(status, range(24)))
    assert {code for code, _ in found} == {200, 429}
    assert {after for code, after in found if code == 429} == {"1"}


def test_a_killed_engine_is_a_clean_error_and_the_next_request_is_answered(chatting: Served, client: OpenAI):
    before = client.chat.completions.create(**ASKED, max_tokens=5).choices[0].message.content
    stream = client.chat.completions.create(**LONG, stream=True)
    next(iter(stream))
    os.kill(engine(chatting).pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="Ask again") as caught:
        list(stream)
    assert caught.value.code == "engine_died"
    assert client.chat.completions.create(**ASKED, max_tokens=5).choices[0].message.content == before
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.chat.completions.create, **LONG)
        while not figures(chatting)["luthier_engine_requests"]:
            continue
        os.kill(engine(chatting).pid, signal.SIGKILL)
        with pytest.raises(openai.InternalServerError, match="Ask again"):
            asked.result()
    patient = chatting.client(retries=2)
    assert patient.chat.completions.create(**ASKED, max_tokens=5).choices[0].message.content == before


def test_another_projects_models_do_not_exist(chatting: Served):
    other = chatting.client(mint(chatting.data, "others"))
    assert other.chat.completions.create(**ASKED, max_tokens=2).choices
    with pytest.raises(openai.NotFoundError):
        other.chat.completions.create(**ASKED | {"model": "ft:starter:luthier::none"})
