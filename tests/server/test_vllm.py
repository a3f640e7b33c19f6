"""vLLM behind the same door, played by a stand-in: what it is asked, what clients get, and every way in which it fails."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from acting_vllm import KEY, Acting, acting
from openai import OpenAI
from safetensors.numpy import save_file
from serving import Served, running

from luthier.core.errors import SettingsError
from luthier.generate.remote import address

ASKED = {"model": "big", "messages": [{"role": "user", "content": "hello"}]}
ALLOWED = {"/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/load_lora_adapter"}


def tuned_run(path: Path, rank: int = 2) -> Path:
    """A run folder whose package is an adapter over the model that the engine serves."""
    (path / "package").mkdir(parents=True)
    (path / "config.yaml").write_text("model: {name: org/base}\n")
    config = {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj"]}
    (path / "package" / "adapter_config.json").write_text(json.dumps(config))
    layer = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    tensors = {layer.format("A"): np.zeros((2, 8), np.float32), layer.format("B"): np.zeros((8, 2), np.float32)}
    save_file(tensors, path / "package" / "adapter_model.safetensors")
    (path / "events.jsonl").write_text(json.dumps({"event": "trained", "best_step": 1}) + "\n")
    return path


@pytest.fixture(scope="module")
def engine() -> Iterator[Acting]:
    with acting("org/base") as told:
        yield told


@pytest.fixture(scope="module")
def served(engine: Acting, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("vllm")
    runs = {name: str(tuned_run(folder / name)) for name in ("tuned", "other")}
    runs["spoiled"] = str(tuned_run(folder / "spoiled", rank=3))
    os.environ["LUTHIER_ENGINE_KEY"] = KEY
    try:
        settings = {
            "engine_url": engine.url,
            "models": {"big": "org/base", "absent": "org/absent", **runs},
            "answers": 2,
            "waiting": 2,
        }
        with running(folder / "data", settings) as server:
            yield server
    finally:
        del os.environ["LUTHIER_ENGINE_KEY"]


@pytest.fixture
def client(served: Served, engine: Acting) -> Iterator[OpenAI]:
    yield served.client()
    engine.refusal, engine.breaks_off, engine.endless, engine.calls_by_itself = None, False, False, True


def test_an_answer_is_whole_or_in_pieces_with_its_usage(client: OpenAI):
    whole = client.chat.completions.create(**ASKED, n=2, logprobs=True, top_logprobs=1)
    assert [choice.message.content for choice in whole.choices] == ["org/base heard hello"] * 2
    assert whole.choices[0].finish_reason == "stop" and whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (7, 3)
    assert whole.usage.prompt_tokens_details and whole.usage.prompt_tokens_details.cached_tokens == 4
    assert whole.choices[0].logprobs and whole.choices[0].logprobs.content
    assert [token.logprob for token in whole.choices[0].logprobs.content] == [-0.5] * 3
    chunks = list(client.chat.completions.create(**ASKED, max_tokens=9, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "org/base heard hello"
    assert chunks[-1].choices[0].finish_reason == "length"
    assert client.completions.create(model="big", prompt="once", max_tokens=3).choices[0].text == "org/base heard once"


def test_only_what_was_checked_is_asked_for(client: OpenAI, engine: Acting):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    held = {"type": "json_schema", "json_schema": {"name": "mine", "schema": schema, "strict": True}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    client.chat.completions.create(
        **ASKED, user="someone", store=True, metadata={"a": "b"}, response_format=held, tools=[tool], seed=3, stop="x",
        temperature=0.5, extra_headers={"X-Secret": "mine"},
    )  # fmt: skip
    body = engine.bodies("/v1/chat/completions")[-1]
    assert set(body) == {
        "model", "n", "temperature", "top_p", "presence_penalty", "frequency_penalty", "stream", "stream_options", "seed", "stop", "messages",
        "tools", "tool_choice", "response_format",
    }  # fmt: skip
    assert body["response_format"]["json_schema"]["schema"] == schema  # type: ignore[index]
    assert (body["seed"], body["stop"], body["temperature"], body["model"]) == (3, ["x"], 0.5, "org/base")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**ASKED, extra_body={"lora_path": "/etc"})
    assert {path for path, _ in engine.asked} <= ALLOWED


TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("first", "second")
]


def test_calls_come_from_there_as_they_were_asked_for(client: OpenAI, engine: Acting):
    named = {"type": "function", "function": {"name": "second"}}
    for choice, parallel, sent, names in (
        (None, None, "auto", ["first", "second"]), ("auto", True, "auto", ["first", "second"]), ("required", False, "required", ["first", "second"]),
        (named, None, named, ["second"]),
    ):  # fmt: skip
        asked = ASKED | {"tools": TOOLS} | ({} if choice is None else {"tool_choice": choice})
        asked |= {} if parallel is None else {"parallel_tool_calls": parallel}
        made = client.chat.completions.create(**asked, n=2).choices
        body = engine.bodies("/v1/chat/completions")[-1]
        assert (body["tool_choice"], body.get("parallel_tool_calls")) == (sent, False if parallel is False else None)
        assert body["tools"] == TOOLS
        for one in made:
            assert one.finish_reason == "tool_calls" and one.message.content is None and one.message.tool_calls
            assert [(call.function.name, call.function.arguments) for call in one.message.tool_calls] == [
                (name, '{"a": 1}') for name in names
            ]
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
        pieces = [piece for chunk in chunks for piece in chunk.delta.tool_calls or []]
        assert [piece.function.name for piece in pieces if piece.id] == names and chunks[
            -1
        ].finish_reason == "tool_calls"
    assert client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice="none").choices[0].message.content
    assert not {"tools", "tool_choice"} & set(engine.bodies("/v1/chat/completions")[-1])


def test_an_engine_that_calls_no_tools_by_itself_says_what_it_wants(client: OpenAI, engine: Acting):
    engine.calls_by_itself = False
    with pytest.raises(openai.BadRequestError, match="--enable-auto-tool-choice"):
        client.chat.completions.create(**ASKED, tools=TOOLS)
    assert client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice="required").choices[0].message.tool_calls


def test_adapters_are_pushed_once_and_each_answers_under_its_own_name(client: OpenAI, engine: Acting):
    texts = {
        name: client.chat.completions.create(**ASKED | {"model": name}).choices[0].message.content
        for name in ("tuned", "other", "tuned")
    }
    pushed = engine.bodies("/v1/load_lora_adapter")
    assert [Path(str(body["lora_path"])).parent.name for body in pushed] == ["tuned", "other"]
    assert texts["tuned"] == f"{pushed[0]['lora_name']} heard hello" != texts["other"]
    engine.models[:] = ["org/base"]  # it was started anew
    again = client.with_options(max_retries=3).chat.completions.create(**ASKED | {"model": "tuned"})
    assert again.choices[0].message.content == texts["tuned"]
    assert len(engine.bodies("/v1/load_lora_adapter")) == 3


def test_an_adapter_that_is_spoiled_is_not_pushed(client: OpenAI, engine: Acting):
    before = len(engine.asked)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**ASKED | {"model": "spoiled"})
    assert caught.value.code == "model_unavailable"
    assert "/v1/load_lora_adapter" not in [path for path, _ in engine.asked[before:]]


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        ((400, {"error": {"message": "too long"}}), 400, "invalid_request"), ((429, {}), 429, "queue_full"), ((503, {}), 429, "queue_full"),
        ((500, {"error": "boom"}), 503, "engine_died"), ((401, {}), 503, "model_unavailable"), ((302, {}), 503, "engine_died"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_it_refuses_is_told_in_openais_form(
    client: OpenAI, engine: Acting, refusal: tuple[int, dict], status: int, code: str, stream: bool
):
    engine.refusal = refusal
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**ASKED, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)


def test_an_answer_that_breaks_off_is_no_answer(client: OpenAI, engine: Acting):
    engine.breaks_off = True
    with pytest.raises(openai.InternalServerError, match="broke off"):
        client.chat.completions.create(**ASKED)
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(**ASKED, stream=True))


def test_a_client_that_leaves_ends_the_request_there_and_frees_its_place(client: OpenAI, engine: Acting):
    engine.endless = True
    for _ in range(6):  # more than may be open at a time
        engine.left.clear()
        stream = client.with_options(max_retries=5).chat.completions.create(**ASKED, stream=True)
        next(iter(stream))
        stream.close()
        assert engine.left.wait(10)


def test_more_than_it_may_have_are_told_to_come_again(client: OpenAI, engine: Acting):
    engine.endless = True
    streams = [client.chat.completions.create(**ASKED, stream=True) for _ in range(4)]
    for stream in streams:
        next(iter(stream))
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**ASKED, stream=True)
    assert caught.value.response.headers["retry-after"] == "1"
    for stream in streams:
        stream.close()


def test_a_base_that_it_does_not_serve_is_named_in_the_log(client: OpenAI, served: Served):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**ASKED | {"model": "absent"})
    assert caught.value.code == "model_unavailable"
    log = served.data.with_name("data.log").read_text()
    assert "org/base, not org/absent" in log and "--served-model-name org/absent" in log and KEY not in log


def test_an_engine_that_is_away_is_a_clean_error(tmp_path: Path):
    with running(tmp_path / "data", {"engine_url": "http://127.0.0.1:9", "models": {"big": "org/base"}}) as server:
        with pytest.raises(openai.InternalServerError) as caught:
            server.client().chat.completions.create(**ASKED)
        assert caught.value.code == "engine_died" and server.call("GET", "/readyz")[0] == 200


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8001", "file:///etc/passwd", "http://", "http://user:secret@host", "http://host/other", "http://host?x=1", "http://host:99999", "http://["]
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url: str):
    with pytest.raises(SettingsError, match="engine_url"):
        address(url)


def test_an_address_may_end_as_clients_write_it():
    assert address("https://host/v1/") == ("https", "host", 443) and address("http://[::1]:8001") == (
        "http",
        "::1",
        8001,
    )
