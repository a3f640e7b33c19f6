"""The main flow with whatever `openai` this Python has: LUTHIER_URL and LUTHIER_KEY say where. Knows nothing of Luthier.

From a file to a tuned model and its answers, a batch, and an error of each class; every answer is checked against the
client's own types. Each step that is taken is told on a line `ok ...`.
"""

import json
import os
import time

import openai

BASE = "gpt-4o-mini-2024-07-18"
CHAT = "/v1/chat/completions"
client = openai.OpenAI(
    base_url=os.environ["LUTHIER_URL"], api_key=os.environ["LUTHIER_KEY"], timeout=120, max_retries=2,
    _strict_response_validation=True,
)  # fmt: skip


def told(step: str) -> None:
    print(f"ok {step}", flush=True)


def rows() -> bytes:
    asked = [("invoice", "billing"), ("refund", "billing"), ("parcel", "shipping"), ("courier", "shipping")]
    lines = []
    for number in range(24):
        word, queue = asked[number % len(asked)]
        turns = [{"role": "user", "content": f"Look at {word} {number}."}, {"role": "assistant", "content": queue}]
        lines.append(json.dumps({"messages": turns}))
    return "\n".join(lines).encode() + b"\n"


def raised(kind: type, call, *arguments, **named) -> None:
    try:
        call(*arguments, **named)
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def tuned() -> str:
    file = client.files.create(file=("train.jsonl", rows()), purpose="fine-tune")
    assert client.files.content(file.id).read() == rows()
    told("a file goes up and comes back")
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=file.id, suffix="tickets", seed=1, metadata={"from": "a test"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 12}}},
    )  # fmt: skip
    told("a job is created")
    while job.finished_at is None:
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded" and job.fine_tuned_model and job.trained_tokens, job
    told("a job succeeds")
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=2)]
    assert len(said) > 4 and any("training loss" in text for text in said), said
    told("events come page by page")
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.step_number == 2 and checkpoint.metrics.train_loss
    told("checkpoints are listed")
    table = client.files.content(job.result_files[0]).read().decode().splitlines()
    assert table[0].startswith("step,train_loss") and len(table) == 3, table
    told("the result file has a line a step")
    assert job.id in {one.id for one in client.fine_tuning.jobs.list(limit=5)}
    assert job.fine_tuned_model in {model.id for model in client.models.list()}
    told("jobs and models are listed")
    return job.fine_tuned_model


def chat(model: str) -> None:
    asked = {"model": model, "messages": [{"role": "user", "content": "Look at refund 1."}], "max_tokens": 8}
    whole = client.chat.completions.create(**asked, temperature=0, logprobs=True)
    assert whole.model == model and whole.choices[0].message.content is not None and whole.usage
    told("the tuned model answers")
    pieces = list(
        client.chat.completions.create(**asked, temperature=0, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices)
    assert text == whole.choices[0].message.content and pieces[-1].usage
    told("the same answer comes in a stream")
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    shaped = client.chat.completions.create(
        **asked | {"model": BASE, "max_tokens": 40},
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
    )  # fmt: skip
    choice = shaped.choices[0]
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content or "")["n"], int), choice
    assert shaped.model == "starter"
    told("an answer keeps to a schema, under a name of the model map")


def batch(model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Look at parcel 2."}], "max_tokens": 4}
    lines = [{"custom_id": f"r{n}", "method": "POST", "url": CHAT, "body": body} for n in range(3)]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("batch.jsonl", data), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    while made.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.2)
        made = client.batches.retrieve(made.id)
    assert made.status == "completed" and made.request_counts and made.request_counts.completed == 3, made
    answers = [json.loads(line) for line in client.files.content(str(made.output_file_id)).text.splitlines()]
    assert {answer["custom_id"] for answer in answers} == {"r0", "r1", "r2"}
    assert made.id in {one.id for one in client.batches.list()}
    told("a batch is answered")


def errors() -> None:
    raised(openai.NotFoundError, client.fine_tuning.jobs.retrieve, "ftjob-none")
    raised(openai.BadRequestError, client.fine_tuning.jobs.create, model="no-such", training_file="file-none")
    raised(openai.BadRequestError, client.fine_tuning.jobs.pause, "ftjob-none")
    stranger = client.with_options(api_key="sk-wrong")
    raised(openai.AuthenticationError, stranger.models.list)
    told("errors are the client's own classes")


if __name__ == "__main__":
    model = tuned()
    chat(model)
    batch(model)
    errors()
    assert client.models.delete(model).deleted
    raised(openai.NotFoundError, client.models.retrieve, model)
    told("a model is deleted")
