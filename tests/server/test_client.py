"""The official client, unmodified and strict, in its main flows and against every class of error."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from serving import Served, mint, tickets


@pytest.fixture(scope="module")
def client(served: Served) -> OpenAI:
    return served.client()


@pytest.fixture(scope="module")
def file_id(client: OpenAI) -> str:
    return client.files.create(file=("tickets.jsonl", tickets()), purpose="fine-tune").id


def settled(client: OpenAI, job: FineTuningJob, until: Callable[[FineTuningJob], bool]) -> FineTuningJob:
    """Ask for a job until something holds of it."""
    for _ in range(400):
        job = client.fine_tuning.jobs.retrieve(job.id)
        if until(job):
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def test_a_file_is_kept_byte_for_byte(client: OpenAI):
    data = tickets(11) + "\u2028\u00e9\r\n".encode()
    made = client.files.create(
        file=("../..\\etc/passwd.jsonl", data),
        purpose="user_data",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (made.bytes, made.filename, made.status) == (len(data), "passwd.jsonl", "processed")
    assert made.expires_at == made.created_at + 3600
    assert client.files.retrieve(made.id).id == made.id
    assert client.files.content(made.id).read() == data
    assert client.files.wait_for_processing(made.id).status == "processed"
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(made.id)


def test_lists_of_files_page_through_everything(client: OpenAI):
    made = [client.files.create(file=(f"{n}.jsonl", b"{}\n"), purpose="vision").id for n in range(5)]
    assert [file.id for file in client.files.list(purpose="vision", limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(purpose="vision", limit=2, order="asc")] == made
    for file_id in made:
        client.files.delete(file_id)


def test_a_job_tells_what_was_asked_and_can_be_cancelled(client: OpenAI, file_id: str):
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18", training_file=file_id, suffix="tickets", seed=7, metadata={"team": "bikes"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5}}},
    )  # fmt: skip
    assert (job.status, job.seed, job.metadata, job.result_files) == ("validating_files", 7, {"team": "bikes"}, [])
    assert job.hyperparameters.n_epochs == 2 and job.hyperparameters.batch_size == "auto"
    assert job.method is not None and job.method.type == "supervised"
    assert [found.id for found in client.fine_tuning.jobs.list(metadata={"team": "bikes"})] == [job.id]
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="already ended"):
        client.fine_tuning.jobs.cancel(job.id)
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=1)]
    assert "The server's settings say what gpt-4o-mini-2024-07-18 is here: starter" in said
    assert said[0] == "The job was cancelled" and said[-1] == f"Created fine-tuning job: {job.id}"


def test_faults_of_a_file_are_the_jobs_error_with_line_byte_and_rule(client: OpenAI):
    good = tickets(12).splitlines(keepends=True)
    bad = [
        *good[:3],
        b'{"messages": [}\n',
        *good[3:],
        json.dumps({"messages": [{"role": "boss", "content": "x"}]}).encode() + b"\n",
    ]
    file = client.files.create(file=("bad.jsonl", b"".join(bad)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="starter", training_file=file.id)
    ended = settled(client, job, lambda now: now.status == "failed")
    assert ended.error is not None
    assert (ended.error.code, ended.error.param) == ("invalid_training_file", "training_file")
    offsets = [len(b"".join(bad[:3])), len(b"".join(bad[:-1]))]
    assert (
        f"line 4 (byte {offsets[0]})" in ended.error.message and f"line 14 (byte {offsets[1]})" in ended.error.message
    )
    errors = [event for event in client.fine_tuning.jobs.list_events(job.id) if event.level == "error" and event.data]
    assert {(event.data["line"], event.data["byte_offset"]) for event in errors} == {(4, offsets[0]), (14, offsets[1])}
    assert {(event.data["rule"], event.data["pointer"]) for event in errors} == {
        ("invalid-json", ""), ("unknown-role", "/messages/0/role")
    }  # fmt: skip
    assert "at /messages/0/role: unknown-role" in ended.error.message


def test_ten_examples_are_needed_in_the_words_that_users_know(client: OpenAI):
    file = client.files.create(file=("few.jsonl", tickets(9)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="starter", training_file=file.id)
    ended = settled(client, job, lambda now: now.status == "failed")
    assert ended.error is not None and ended.error.code == "invalid_n_examples"
    assert ended.error.message == "Training file has 9 example(s), but must have at least 10 examples"


def test_models_are_the_starter_and_the_mapped_names(client: OpenAI):
    assert {"starter", "gpt-4o-mini-2024-07-18"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("gpt-4o-mini-2024-07-18").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("ft:org/base:luthier:tickets:none")
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("starter")


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"model": "gpt-5"}, "model", "model_not_found"),
        ({"model": "../../etc"}, "model", "model_not_found"),
        ({"training_file": "file-none"}, "training_file", "invalid_training_file"),
        ({"validation_file": "file-none"}, "validation_file", "invalid_validation_file"),
        ({"suffix": "x" * 65}, "suffix", "invalid_value"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"n_epoch": 1}}, "hyperparameters.n_epoch", "unknown_parameter"),
        ({"extra_body": {"epochs": 3}}, "epochs", "unknown_parameter"),
        ({"method": {"type": "dpo", "dpo": {}}}, "method", "not_supported"),
        ({"method": {"type": "supervised", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "method", "not_supported"),
        ({"method": {"type": "reinforcement"}}, "method", "not_supported"),
        ({"method": {"type": "ppo"}}, "method.type", "invalid_value"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "not_supported"),
        (
            {"hyperparameters": {"n_epochs": 2}, "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}},
            "hyperparameters", "invalid_value",
        ),
        ({"hyperparameters": {"batch_size": 0}}, "hyperparameters.batch_size", "invalid_value"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier", "invalid_value"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs", "invalid_value"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_by_name(client: OpenAI, file_id: str, changes: dict, param: str | None, code: str):
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(**({"model": "starter", "training_file": file_id} | changes))
    assert caught.value.code == code
    if param is not None:
        assert caught.value.param == param
    assert caught.value.request_id


def test_errors_are_the_clients_own_classes(served: Served, client: OpenAI):
    with pytest.raises(openai.AuthenticationError):
        served.client("sk-wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.retrieve("ftjob-none")
    with pytest.raises(openai.BadRequestError, match="after"):
        client.fine_tuning.jobs.list(after="ftjob-none")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=b"x", purpose="nonsense")  # type: ignore[arg-type]


def test_what_comes_in_a_later_round_is_said_to_be_missing(client: OpenAI):
    grader = {"type": "string_check", "name": "n", "input": "i", "reference": "r", "operation": "eq"}
    permissions = client.fine_tuning.checkpoints.permissions
    listed = getattr(permissions, "list", None) or permissions.retrieve  # as older clients name it
    for later in (
        lambda: client.fine_tuning.jobs.pause("ftjob-x"),
        lambda: client.fine_tuning.jobs.resume("ftjob-x"),
        lambda: client.fine_tuning.checkpoints.permissions.create("ft:a:b::c", project_ids=["p"]),
        lambda: listed("ft:a:b::c"),
        lambda: client.fine_tuning.alpha.graders.validate(grader=grader),  # type: ignore[arg-type]
        lambda: client.fine_tuning.alpha.graders.run(grader=grader, model_sample="s"),  # type: ignore[arg-type]
        lambda: client.uploads.create(bytes=1, filename="f", mime_type="text/plain", purpose="batch"),
        lambda: client.uploads.cancel("u"),
        lambda: client.responses.create(model="starter", input="x"),
        lambda: client.responses.retrieve("resp_1"),
        lambda: client.embeddings.create(model="starter", input="x"),
        lambda: client.moderations.create(input="x"),
        lambda: client.evals.list(),
    ):
        with pytest.raises(openai.BadRequestError, match="not supported") as caught:
            later()
        assert caught.value.code == "not_supported" and caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="/pause is not supported"):
        client.fine_tuning.jobs.pause("ftjob-x")
    with pytest.raises(openai.BadRequestError, match="greater than or equal to 1"):
        client.fine_tuning.jobs.create(model="starter", training_file="file-x", hyperparameters={"n_epochs": 0})


def test_the_same_request_under_one_key_is_one_job(client: OpenAI, file_id: str):
    asked = {"model": "starter", "training_file": file_id, "suffix": "once"}
    first = client.fine_tuning.jobs.create(**asked, extra_headers={"Idempotency-Key": "k-1"})
    again = client.fine_tuning.jobs.create(**asked, extra_headers={"Idempotency-Key": "k-1"})
    assert again.id == first.id
    with pytest.raises(openai.UnprocessableEntityError):
        client.fine_tuning.jobs.create(**asked, seed=2, extra_headers={"Idempotency-Key": "k-1"})
    retried = client.fine_tuning.jobs.create(**asked, extra_headers={"x-stainless-retry-count": "1"})
    assert retried.id == first.id
    client.fine_tuning.jobs.cancel(first.id)


def test_many_clients_at_once_get_a_job_each_and_one_for_one_key(served: Served, client: OpenAI, file_id: str):
    asked = {"model": "starter", "training_file": file_id, "metadata": {"from": "many"}}

    def submit(number: int) -> tuple[str, str]:
        mine = served.client(retries=2)
        own = mine.fine_tuning.jobs.create(**asked, suffix=f"n{number}")
        shared = mine.fine_tuning.jobs.create(**asked, extra_headers={"Idempotency-Key": "shared"})
        return own.id, shared.id

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(submit, range(32)))
    jobs = {job.id for job in client.fine_tuning.jobs.list(metadata={"from": "many"}, limit=10)}
    assert len({own for own, _ in made}) == 32 and len({shared for _, shared in made}) == 1
    assert jobs == {job_id for pair in made for job_id in pair}
    for job_id in jobs:
        client.fine_tuning.jobs.cancel(job_id)


def test_another_projects_things_do_not_exist(served: Served, client: OpenAI, file_id: str):
    other = served.client(mint(served.data, "others"))
    job = client.fine_tuning.jobs.create(model="starter", training_file=file_id)
    asked = (
        lambda: other.files.retrieve(file_id),
        lambda: other.files.content(file_id),
        lambda: other.files.delete(file_id),
        lambda: other.fine_tuning.jobs.retrieve(job.id),
        lambda: other.fine_tuning.jobs.cancel(job.id),
        lambda: other.fine_tuning.jobs.list_events(job.id),
        lambda: other.fine_tuning.jobs.checkpoints.list(job.id),
    )
    for ask in asked:
        with pytest.raises(openai.NotFoundError):
            ask()
    with pytest.raises(openai.BadRequestError):
        other.fine_tuning.jobs.create(model="starter", training_file=file_id)
    assert list(other.files.list()) == [] and list(other.fine_tuning.jobs.list()) == []
    client.fine_tuning.jobs.cancel(job.id)
