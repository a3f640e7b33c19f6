"""Tool calls over the API with the official client: forced, chosen by a model that was tuned to call, streamed, in batches, refused."""

import json
import signal
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import jsonschema
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall as ToolCall
from serving import Served, running
from test_batches import lines_of, request, settled, upload

pytestmark = pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)
WEATHER = {
    "type": "object", "required": ["city", "days"], "additionalProperties": False,
    "properties": {"city": {"enum": ["Rome", "Lima"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": WEATHER}}
NOW = {"type": "function", "function": {"name": "now"}}
CHOSEN = {"type": "function", "function": {"name": "weather"}}
CITY = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
SMALL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
ASKED = {
    "model": "starter", "messages": [{"role": "user", "content": "Weather in Rome for 3 days?"}], "tools": [TOOL, NOW], "seed": 1, "max_tokens": 200,
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    job = {"model": {"dtype": "float32"}, "train": {"steps": 8}}
    with running(tmp_path_factory.mktemp("tools") / "data", {"engines": 1, "job": job}) as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> OpenAI:
    return served.client()


def only(calls: list | None) -> ToolCall:
    """The one call of an answer, in OpenAI's form."""
    assert calls is not None
    (call,) = calls
    assert call.type == "function" and call.id.startswith("call_")
    return call


def test_a_forced_call_has_arguments_of_the_tools_schema(client: OpenAI):
    made = client.chat.completions.create(**ASKED, tool_choice=CHOSEN, temperature=1.5, n=3)
    for choice in made.choices:
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        call = only(choice.message.tool_calls)
        assert call.function.name == "weather"
        jsonschema.validate(json.loads(call.function.arguments), WEATHER)
    assert len({only(choice.message.tool_calls).id for choice in made.choices}) == 3
    some = client.chat.completions.create(**ASKED, tool_choice="required").choices[0]
    assert some.finish_reason == "tool_calls" and {call.function.name for call in some.message.tool_calls} <= {
        "weather",
        "now",
    }
    one = client.chat.completions.create(**ASKED, tool_choice="required", parallel_tool_calls=False).choices[0]
    assert only(one.message.tool_calls)
    free = client.chat.completions.create(**ASKED, temperature=0)
    assert free.choices[0].finish_reason in ("stop", "length") and free.choices[0].message.content


def test_a_call_comes_in_pieces_that_hold_no_mark(client: OpenAI):
    asked = ASKED | {"tool_choice": CHOSEN, "temperature": 0}
    whole = only(client.chat.completions.create(**asked).choices[0].message.tool_calls).function
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    pieces = [piece for chunk in chunks for piece in chunk.delta.tool_calls or []]
    assert all(len(chunk.delta.tool_calls or []) <= 1 for chunk in chunks)  # older clients take two for two calls
    assert pieces[0].id and pieces[0].function.name == "weather" and not pieces[0].function.arguments
    assert {piece.index for piece in pieces} == {0} and all(piece.id is None for piece in pieces[1:])
    assert "".join(piece.function.arguments for piece in pieces) == whole.arguments
    assert "".join(chunk.delta.content or "" for chunk in chunks) == "" and chunks[-1].finish_reason == "tool_calls"
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion().choices[0]
    assert only(final.message.tool_calls).function.arguments == whole.arguments


def test_a_call_that_is_cut_off_is_no_call(client: OpenAI):
    cut = client.chat.completions.create(**ASKED | {"max_tokens": 9}, tool_choice=CHOSEN).choices[0]
    assert cut.finish_reason == "length" and cut.message.tool_calls is None
    assert '{"name": "weather"' in cut.message.content


def test_the_helpers_of_the_client_get_their_arguments(client: OpenAI):
    import pydantic

    class Weather(pydantic.BaseModel):
        days: int

    tool = openai.pydantic_function_tool(Weather)
    assert tool["function"]["strict"] is True
    parsed = client.chat.completions.parse(
        **ASKED | {"tools": [tool]}, tool_choice="required", parallel_tool_calls=False
    )
    assert isinstance(only(parsed.choices[0].message.tool_calls).function.parsed_arguments, Weather)


def rows() -> bytes:
    """Chats in which a tool is called, and its answer is told."""
    lines = []
    for number in range(24):
        city = ("Rome", "Lima", "Oslo", "Cairo")[number % 4]
        question = ("Weather in {}?", "How is the weather in {}?", "{}: what is the weather?")[number % 3].format(city)
        function = {"name": "weather", "arguments": json.dumps({"city": city})}
        turns = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": None, "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": f"call_{number}", "content": "sunny"}, {"role": "assistant", "content": "It is sunny."},
        ]  # fmt: skip
        lines.append(json.dumps({"messages": turns, "tools": [SMALL], "parallel_tool_calls": False}))
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def tuned(client: OpenAI) -> str:
    file = client.files.create(file=("calls.jsonl", rows()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="starter",
        training_file=file.id,
        seed=1,
        hyperparameters={"batch_size": 8, "learning_rate_multiplier": 2.0},
    )
    while job.finished_at is None:
        signal.sigtimedwait([], 0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.fine_tuned_model, job.error
    return job.fine_tuned_model


@pytest.mark.nightly
def test_a_model_tuned_on_calls_calls_by_itself_and_goes_on_behind_the_tools_answer(client: OpenAI, tuned: str):
    messages = [{"role": "user", "content": "Weather in Rome?"}]
    asked = ASKED | {"model": tuned, "messages": messages, "tools": [SMALL], "temperature": 0, "max_tokens": 60}
    first = client.chat.completions.create(**asked).choices[0]
    call = only(first.message.tool_calls)
    assert first.finish_reason == "tool_calls" and first.message.content is None
    assert call.function.name == "weather" and list(json.loads(call.function.arguments)) == ["city"]
    told = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    second = client.chat.completions.create(**asked | {"messages": [*messages, first.message, told]})
    assert second.choices[0].message.content == "It is sunny." and second.choices[0].message.tool_calls is None
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    assert chunks[-1].finish_reason == "tool_calls" and not any(chunk.delta.content for chunk in chunks)
    hidden = client.chat.completions.create(**asked, tool_choice="none").choices[0]
    assert hidden.message.tool_calls is None and hidden.finish_reason != "tool_calls"
    quito = {
        "type": "object",
        "properties": {"city": {"const": "Quito"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    strict = {"type": "function", "function": {"name": "weather", "parameters": quito, "strict": True}}
    held = client.chat.completions.create(**asked | {"tools": [strict]}).choices[0]
    assert json.loads(only(held.message.tool_calls).function.arguments) == {"city": "Quito"}
    other = {"type": "function", "function": SMALL["function"] | {"name": "rain"}}
    unknown = client.chat.completions.create(**asked | {"tools": [other]}).choices[0].message
    assert not unknown.tool_calls or only(unknown.tool_calls).function.name == "rain"


def test_a_batch_calls_too(client: OpenAI):
    body = {"tools": [TOOL], "tool_choice": "required", "max_tokens": 200}
    file_id = upload(
        client,
        [request("a", **body), request("b", **body | {"tool_choice": {"type": "function", "function": {"name": "x"}}})],
    )
    made = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    ended = settled(client, made, lambda now: now.status == "completed")
    (choice,) = lines_of(client, ended.output_file_id)["a"]["response"]["body"]["choices"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    jsonschema.validate(json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]), WEATHER)
    assert lines_of(client, ended.error_file_id)["b"]["response"]["body"]["error"]["param"] == "tool_choice"


def function(**fields: object) -> list[dict]:
    return [{"type": "function", "function": {"name": "f"} | fields}]


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "wether"}}}, "invalid_value", "tool_choice"),
        ({"tool_choice": "perhaps"}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}}, "not_supported", "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tools": None, "tool_choice": "auto"}, "invalid_value", "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "invalid_value", "tools[0].function"),
        ({"tools": [TOOL, {"type": "function"}]}, "invalid_value", "tools[1].function"),
        ({"tools": function(name="two words")}, "invalid_value", "tools[0].function.name"),
        ({"tools": function(parameters={"type": "string"})}, "invalid_value", "tools[0].function.parameters"),
        ({"tools": function(schema={})}, "unknown_parameter", "tools[0].function.schema"),
        ({"tools": function(strict=True, parameters={"type": "object", "not": {"required": ["x"]}})}, "invalid_value", "tools"),
        ({"tools": function(parameters={"type": "object", "$ref": "http://x/y"}), "tool_choice": "required"}, "invalid_value", "tools"),
        ({"tools": function() * 129}, "invalid_value", "tools"),
        ({"parallel_tool_calls": "no"}, "invalid_value", "parallel_tool_calls"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_tools_and_choices_are_refused_by_name(
    client: OpenAI, changes: dict, code: str, param: str, stream: bool
):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASKED | {"stream": stream} | changes)
    assert (caught.value.code, caught.value.param) == (code, param)
