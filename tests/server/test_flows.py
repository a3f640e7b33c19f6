"""Flows of the official client that need a place of their own: lists that grow, answers that are lost, many adapters."""

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import numpy as np
import openai
import pytest
from openai import OpenAI
from safetensors.numpy import save_file
from serving import Served, running, tickets

from luthier.config.load import dump
from luthier.config.settings import Settings
from luthier.core.rundir import create

ALIAS = "ft:gpt-4o-mini-2024-07-18:acme:tickets:abc"
ASKED = {"messages": [{"role": "user", "content": "What colour is the sky?"}], "max_tokens": 6, "temperature": 0}


def test_a_walk_over_pages_meets_each_job_once_while_others_arrive(served: Served):
    client = served.client()
    file = client.files.create(file=("t.jsonl", tickets(12)), purpose="fine-tune").id
    tag = {"walk": "1"}

    def submit() -> str:
        return client.fine_tuning.jobs.create(model="starter", training_file=file, metadata=tag).id

    there = {submit() for _ in range(7)}
    met: list[str] = []
    for job in client.fine_tuning.jobs.list(limit=2, metadata=tag):
        met.append(job.id)
        submit()
        if len(met) > 20:
            break
    assert len(met) == len(set(met)) == 7 and set(met) == there
    told = [event.id for event in client.fine_tuning.jobs.list_events(met[0], limit=1)]
    assert len(told) == len(set(told)) >= 2
    for job in client.fine_tuning.jobs.list(limit=50, metadata=tag):
        if job.finished_at is None:
            client.fine_tuning.jobs.cancel(job.id)


@contextmanager
def losing(served: Served, lost: int) -> Iterator[tuple[str, list[str]]]:
    """Stand before the server and cut the connection instead of sending its first `lost` answers."""
    counts: list[str] = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            behind = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
            behind.request("POST", self.path, body, dict(self.headers))
            answer = behind.getresponse()
            data = answer.read()
            counts.append(self.headers.get("x-stainless-retry-count", ""))
            if len(counts) <= lost:
                self.connection.close()
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    door = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{door.server_port}/v1", counts
    finally:
        door.shutdown()
        door.server_close()


def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_made_twice(served: Served):
    client = served.client()
    file = client.files.create(file=("t.jsonl", tickets(12)), purpose="fine-tune").id
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "no-such"}}
    requests = client.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch").id
    with losing(served, lost=2) as (url, counts):
        through = OpenAI(base_url=url, api_key=served.key, max_retries=2, _strict_response_validation=True, timeout=30)
        job = through.fine_tuning.jobs.create(model="starter", training_file=file, metadata={"lost": "1"})
        assert counts == ["0", "1", "2"]
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"lost": "1"})] == [job.id]
    client.fine_tuning.jobs.cancel(job.id)
    with losing(served, lost=1) as (url, counts):
        through = OpenAI(base_url=url, api_key=served.key, max_retries=2, _strict_response_validation=True, timeout=30)
        batch = through.batches.create(
            input_file_id=requests, endpoint="/v1/chat/completions", completion_window="24h", metadata={"lost": "1"}
        )
    mine = [one.id for one in client.batches.list() if one.metadata == {"lost": "1"}]
    assert mine == [batch.id] and counts == ["0", "1"]


def adapted(path: Path, seed: int) -> Path:
    """A run whose package is an adapter of random weights over the starter."""
    run = create(path, "x")
    run.config.write_text(dump(Settings()))
    run.event("trained", best_step=1, steps=1, tokens=1)
    run.package.mkdir()
    rng, name = np.random.default_rng(seed), "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    shapes = {"A": (4, 256), "B": (256, 4)}
    tensors = {
        name.format(layer, part): rng.normal(0, 0.3, shape).astype(np.float32)
        for layer in range(6)
        for part, shape in shapes.items()
    }
    save_file(tensors, run.package / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"],
        "base_model_name_or_path": "starter",
    }  # fmt: skip
    (run.package / "adapter_config.json").write_text(json.dumps(config))
    return run.path


@pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)
def test_many_adapters_answer_at_once_each_as_alone_under_the_names_that_code_knows(tmp_path: Path):
    runs = {f"ft:gpt-4o-mini-2024-07-18:acme::{n}": str(adapted(tmp_path / f"run-{n}", n)) for n in range(4)}
    models = {**runs, ALIAS: str(adapted(tmp_path / "run-tickets", 9)), "gpt-4o-mini-2024-07-18": "starter"}
    with running(tmp_path / "data", {"models": models}) as served:
        client = served.client().with_options(timeout=300)  # the first answer waits for the engine
        listed = {model.id: (model.model_extra or {})["root"] for model in client.models.list()}
        assert listed[ALIAS] == "run-tickets" and listed["gpt-4o-mini-2024-07-18"] == "starter"

        def text(name: str) -> tuple[str, str]:
            answer = client.chat.completions.create(model=name, **ASKED, logprobs=True)
            assert answer.choices[0].logprobs is not None
            first = (answer.choices[0].logprobs.content or [])[0]
            return answer.model, f"{answer.choices[0].message.content} {first.logprob:.3f}"

        alone = {name: text(name) for name in models}
        assert len({told for _, told in alone.values()}) == len(models), "two adapters answer alike"
        assert alone[ALIAS][0] == "run-tickets", "the resolved name is not told"
        with ThreadPoolExecutor(6) as pool:
            together = dict(zip(models, pool.map(text, models), strict=True))
        assert together == alone
        stream = list(client.chat.completions.create(model=ALIAS, **ASKED, stream=True))
        assert {chunk.model for chunk in stream} == {"run-tickets"}
        file = client.files.create(file=("t.jsonl", tickets(12)), purpose="fine-tune").id
        job = client.fine_tuning.jobs.create(model=ALIAS, training_file=file)
        said = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
        assert job.model == ALIAS and f"The server's settings say what {ALIAS} is here: run-tickets" in said
        client.fine_tuning.jobs.cancel(job.id)


def test_every_status_is_an_exception_of_its_own(served: Served):
    client = served.client()
    file = client.files.create(file=("t.jsonl", tickets(12)), purpose="fine-tune").id
    keyed = {"extra_headers": {"Idempotency-Key": "status"}}
    client.fine_tuning.jobs.cancel(client.fine_tuning.jobs.create(model="starter", training_file=file, **keyed).id)
    calls = {
        openai.BadRequestError: lambda: client.fine_tuning.jobs.create(model="no-such", training_file=file),
        openai.AuthenticationError: lambda: served.client("sk-wrong").files.list(),
        openai.PermissionDeniedError: lambda: client.models.delete("starter"),
        openai.NotFoundError: lambda: client.batches.retrieve("batch_none"),
        openai.UnprocessableEntityError: lambda: client.fine_tuning.jobs.create(
            model="starter", training_file=file, seed=5, **keyed
        ),
    }
    for kind, call in calls.items():
        with pytest.raises(kind) as caught:
            call()
        assert type(caught.value) is kind and caught.value.request_id
        body = caught.value.body
        assert isinstance(body, dict) and set(body) == {"message", "type", "param", "code"}
