"""Batches over the API with the official client: the whole flow, every refusal, a server killed in the middle."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from openai.types import Batch
from serving import Served, mint, start

needs_starter = pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)
CHAT = "/v1/chat/completions"


@pytest.fixture
def client(served: Served) -> OpenAI:
    return served.client()


def request(name: str, model: str = "starter", url: str = CHAT, **body: object) -> dict:
    messages = [{"role": "user", "content": f"What is {name}?"}]
    asked = {"messages": messages} if url == CHAT else {"prompt": f"{name} is"}
    return {
        "custom_id": name,
        "method": "POST",
        "url": url,
        "body": {"model": model, "max_tokens": 3, "seed": 1, **asked, **body},
    }


def upload(client: OpenAI, requests: list[dict]) -> str:
    data = "".join(json.dumps(request) + "\n" for request in requests).encode()
    return client.files.create(file=("requests.jsonl", data), purpose="batch").id


def settled(client: OpenAI, batch: Batch, until: Callable[[Batch], bool]) -> Batch:
    for _ in range(1200):
        batch = client.batches.retrieve(batch.id)
        if until(batch):
            return batch
        signal.sigtimedwait([], 0.1)
    raise AssertionError(batch)


def lines_of(client: OpenAI, file_id: str | None) -> dict[str, dict]:
    assert file_id is not None
    lines = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    return {line["custom_id"]: line for line in lines}


@needs_starter
def test_a_batch_is_answered_as_its_requests_would_be(client: OpenAI):
    wrong = [request("hot", temperature=9), request("lost", model="no-such-model"), request("flow", stream=True)]
    file_id = upload(client, [request("a"), request("b", model="gpt-4o-mini-2024-07-18"), *wrong])
    made = client.batches.create(
        input_file_id=file_id, endpoint=CHAT, completion_window="24h", metadata={"team": "bikes"},
        output_expires_after={"anchor": "created_at", "seconds": 7200},
    )  # fmt: skip
    assert (made.status, made.endpoint, made.metadata) == ("validating", CHAT, {"team": "bikes"})
    assert made.expires_at == made.created_at + 24 * 3600
    ended = settled(client, made, lambda now: now.status == "completed")
    assert ended.request_counts and ended.request_counts.model_dump() == {"total": 5, "completed": 2, "failed": 3}
    assert ended.in_progress_at and ended.completed_at and ended.finalizing_at and not ended.cancelled_at
    answers, errors = lines_of(client, ended.output_file_id), lines_of(client, ended.error_file_id)
    assert sorted(answers) == ["a", "b"] and sorted(errors) == ["flow", "hot", "lost"]
    direct = client.chat.completions.create(**request("b")["body"])
    assert answers["b"]["response"]["body"]["choices"] == direct.to_dict()["choices"]
    assert answers["b"]["response"]["body"]["model"] == "starter", "the resolved name is not told"
    statuses = {name: line["response"]["status_code"] for name, line in errors.items()}
    assert statuses == {"flow": 400, "hot": 400, "lost": 404}
    assert errors["hot"]["response"]["body"]["error"]["param"] == "temperature"
    assert ended.usage and ended.usage.output_tokens == sum(
        line["response"]["body"]["usage"]["completion_tokens"] for line in answers.values()
    )
    output = client.files.retrieve(str(ended.output_file_id))
    assert output.purpose == "batch_output" and output.expires_at == output.created_at + 7200
    with pytest.raises(openai.BadRequestError, match="already ended: it is completed"):
        client.batches.cancel(made.id)


@needs_starter
def test_plain_completions_go_in_batches_too(client: OpenAI):
    file_id = upload(client, [request("a", url="/v1/completions")])
    made = client.batches.create(input_file_id=file_id, endpoint="/v1/completions", completion_window="24h")
    ended = settled(client, made, lambda now: now.status == "completed")
    assert lines_of(client, ended.output_file_id)["a"]["response"]["body"]["object"] == "text_completion"


def test_a_file_that_is_no_batch_is_told_by_line(client: OpenAI):
    file_id = upload(client, [request("a"), request("a"), {**request("b"), "url": "/v1/embeddings"}])
    made = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    ended = settled(client, made, lambda now: now.status == "failed")
    assert ended.errors and ended.errors.data
    assert [(error.code, error.line) for error in ended.errors.data] == [("duplicate_custom_id", 2), ("invalid_url", 3)]
    assert ended.failed_at and ended.output_file_id is None and ended.error_file_id is None


def test_batches_are_listed_page_by_page_and_for_their_project_alone(served: Served, client: OpenAI):
    file_id = upload(client, [{"custom_id": "x"}])
    made = [client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h").id for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)][:5] == made[::-1]
    other = served.client(mint(served.data, "others-batches"))
    assert list(other.batches.list()) == []
    for ask in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(made[0])
    with pytest.raises(openai.BadRequestError):
        other.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.BadRequestError, match="after"):
        client.batches.list(after="batch_none")


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"input_file_id": "file-none"}, "input_file_id", "invalid_input_file"),
        ({"endpoint": "/v1/embeddings"}, "endpoint", "not_supported"),
        ({"endpoint": "/v1/responses"}, "endpoint", "not_supported"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "invalid_value"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds", "invalid_value"),
        ({"extra_body": {"priority": 1}}, "priority", "unknown_parameter"),
    ],
)  # fmt: skip
def test_a_wrong_batch_is_refused_by_name(client: OpenAI, changes: dict, param: str, code: str):
    asked = {"input_file_id": upload(client, [request("a")]), "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(**asked | changes)
    assert caught.value.code == code and str(caught.value.param).startswith(param)


def test_a_file_for_tuning_is_no_batch(client: OpenAI):
    file = client.files.create(file=("t.jsonl", b"{}\n"), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="upload it for 'batch'"):
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


def test_a_retried_request_is_one_batch(client: OpenAI):
    asked = {"input_file_id": upload(client, [{"custom_id": "x"}]), "endpoint": CHAT, "completion_window": "24h"}
    first = client.batches.create(**asked, extra_headers={"Idempotency-Key": "b-1"})
    assert client.batches.create(**asked, extra_headers={"Idempotency-Key": "b-1"}).id == first.id
    assert client.batches.create(**asked, extra_headers={"x-stainless-retry-count": "1"}).id == first.id
    with pytest.raises(openai.UnprocessableEntityError):
        client.batches.create(**asked, metadata={"a": "b"}, extra_headers={"Idempotency-Key": "b-1"})


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[list[Served]]:
    servers = [start(tmp_path / "data", {"batch_answers": 1})]
    yield servers
    servers[-1].stop()


@needs_starter
def test_a_batch_goes_on_where_a_killed_server_left_it(killed: list[Served], tmp_path: Path):
    client = killed[0].client()
    file_id = upload(client, [request(f"r{n}", max_tokens=40, stop=["\0"]) for n in range(12)])
    made = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    settled(client, made, lambda now: bool(now.request_counts and now.request_counts.completed >= 2))
    os.kill(killed[0].process.pid, signal.SIGKILL)
    killed[0].process.wait()
    journal = tmp_path / "data" / "batches" / made.id / "output.jsonl"
    before = journal.read_bytes()
    assert 2 <= before.count(b"\n") < 12
    killed.append(start(tmp_path / "data", {"batch_answers": 1}, key=killed[0].key))
    client = killed[-1].client()
    ended = settled(client, made, lambda now: now.status == "completed")
    assert ended.request_counts and ended.request_counts.completed == 12
    text = client.files.content(str(ended.output_file_id)).read()
    whole = before[: before.rfind(b"\n") + 1]
    assert text.startswith(whole) and len(lines_of(client, ended.output_file_id)) == 12 == text.count(b"\n")
    cancelled = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    assert client.batches.cancel(cancelled.id).status == "cancelling"
    ended = settled(client, cancelled, lambda now: now.status == "cancelled")
    assert ended.cancelling_at and ended.cancelled_at
