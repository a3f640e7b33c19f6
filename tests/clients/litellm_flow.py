"""The main flow through LiteLLM, to which Luthier is one more OpenAI: LUTHIER_URL and LUTHIER_KEY say where.

Each step that is taken is told on a line `ok ...`.
"""

import json
import os
import time

import litellm
from main_flow import BASE, CHAT, rows, told

WHERE = {"api_base": os.environ["LUTHIER_URL"], "api_key": os.environ["LUTHIER_KEY"], "custom_llm_provider": "openai"}
ENDED = ("succeeded", "failed", "cancelled", "completed", "expired")


def tuned() -> str:
    file = litellm.create_file(file=("train.jsonl", rows()), purpose="fine-tune", **WHERE)
    told("a file goes up")
    job = litellm.create_fine_tuning_job(
        model=BASE,
        training_file=file.id,
        suffix="lite",
        seed=1,
        hyperparameters={"n_epochs": 1, "batch_size": 12},
        **WHERE,
    )
    told("a job is created")
    while job.status not in ENDED:
        time.sleep(0.5)
        job = litellm.retrieve_fine_tuning_job(fine_tuning_job_id=job.id, **WHERE)
    assert job.status == "succeeded" and job.fine_tuned_model, job
    told("a job succeeds")
    return job.fine_tuned_model


def chat(model: str) -> None:
    asked = {
        "model": f"openai/{model}", "messages": [{"role": "user", "content": "Look at refund 1."}], "max_tokens": 8,
        "temperature": 0, "api_base": WHERE["api_base"], "api_key": WHERE["api_key"],
    }  # fmt: skip
    whole = litellm.completion(**asked)
    told("the tuned model answers")
    text = "".join(piece.choices[0].delta.content or "" for piece in litellm.completion(**asked, stream=True))
    assert text == whole.choices[0].message.content, (text, whole)
    told("the same answer comes in a stream")
    try:
        litellm.completion(**asked | {"model": "openai/no-such"})
    except litellm.NotFoundError:
        told("an unknown model is its NotFoundError")


def batch(model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Look at parcel 2."}], "max_tokens": 4}
    line = {"custom_id": "r0", "method": "POST", "url": CHAT, "body": body}
    file = litellm.create_file(file=("batch.jsonl", json.dumps(line).encode()), purpose="batch", **WHERE)
    made = litellm.create_batch(completion_window="24h", endpoint=CHAT, input_file_id=file.id, **WHERE)
    while made.status not in ENDED:
        time.sleep(0.2)
        made = litellm.retrieve_batch(batch_id=made.id, **WHERE)
    assert made.status == "completed" and made.request_counts.completed == 1, made
    answer = json.loads(litellm.file_content(file_id=made.output_file_id, **WHERE).text)
    assert answer["custom_id"] == "r0" and answer["response"]["status_code"] == 200
    told("a batch is answered")


if __name__ == "__main__":
    model = tuned()
    chat(model)
    batch(model)
