"""A real job from the upload to the model, and jobs whose server is killed in the middle: all end in the same bytes."""

import csv
import io
import os
import shutil
import signal
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from openai import NotFoundError, OpenAI, PermissionDeniedError
from openai.types.fine_tuning import FineTuningJob
from serving import Served, mint, start, tickets

from luthier.core.journal import entries
from luthier.core.rundir import RunDir, open_run
from luthier.jobs.attempt import attempts
from luthier.jobs.folder import DataFolder

pytestmark = pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)
STEPS, KILLS = 4, 5


class Running:
    """The server of these tests, which may be another one after a kill."""

    def __init__(self, data: Path) -> None:
        self.data, self.runs = data, data.with_name("runs")
        self.runs.mkdir()
        self.served = start(data, {"runs": str(self.runs)})
        self.undisturbed = ""

    @property
    def client(self) -> OpenAI:
        """The official client, of the server that runs now."""
        return self.served.client(retries=2)

    def again(self) -> None:
        """Start another server on the same folder."""
        self.served = start(self.data, {"runs": str(self.runs)}, key=self.served.key)

    def run_of(self, job: FineTuningJob) -> RunDir:
        """The run folder of a finished job."""
        return open_run(attempts(DataFolder(self.data), job.id)[-1] / "run")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("real") / "data")
    yield made
    made.served.stop()


def submitted(client: OpenAI) -> FineTuningJob:
    file = client.files.create(file=("tickets.jsonl", tickets(40)), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18",
        training_file=file.id,
        seed=3,
        suffix="tickets",
        hyperparameters={"batch_size": 20},
    )


def waited(served: Served, job: FineTuningJob, *, step: int) -> FineTuningJob:
    """Wait until the job has told of a step (0: until it is worked on), or has ended."""
    client = served.client(retries=2)
    for _ in range(3000):
        told = {event.message.partition("/")[0] for event in client.fine_tuning.jobs.list_events(job.id, limit=100)}
        now = client.fine_tuning.jobs.retrieve(job.id)
        if now.finished_at is not None or (step <= STEPS and f"Step {step}" in told):
            return now
        if step == 0 and now.status == "running":
            return now
        served.process.poll()
        signal.sigtimedwait([], 0.2)
    raise AssertionError(job)


def test_a_job_ends_with_a_model_and_its_figures(running: Running):
    client = running.client
    job = waited(running.served, submitted(client), step=STEPS + 1)
    assert job.status == "succeeded", (job, running.served.data)
    assert job.fine_tuned_model == f"ft:gpt-4o-mini-2024-07-18:luthier:tickets:{job.id.removeprefix('ftjob-')[:12]}"
    assert job.fine_tuned_model in {model.id for model in client.models.list()}
    assert job.hyperparameters.batch_size == 20 and job.hyperparameters.n_epochs == 2 and job.trained_tokens
    table = list(csv.DictReader(io.StringIO(client.files.content(job.result_files[0]).read().decode())))
    assert [int(row["step"]) for row in table] == [1, 2, 3, 4]
    assert float(table[-1]["train_loss"]) < float(table[0]["train_loss"])
    figures = [event for event in client.fine_tuning.jobs.list_events(job.id) if event.type == "metrics"]
    assert [event.data["step"] for event in figures] == [4, 3, 2, 1]  # type: ignore[index]
    checkpoint, first = client.fine_tuning.jobs.checkpoints.list(job.id, limit=1)
    assert (checkpoint.step_number, first.step_number) == (STEPS, 2)
    assert checkpoint.metrics.train_loss == float(table[-1]["train_loss"])
    assert client.models.retrieve(checkpoint.fine_tuned_model_checkpoint).id == checkpoint.fine_tuned_model_checkpoint
    settings = running.run_of(job).config.read_text()
    assert "test_share: 0.0" in settings and "batch_rows: 20" in settings
    running.undisturbed = job.id


def test_the_tuned_model_answers_in_a_stream_beside_its_base(running: Running):
    client = running.client
    tuned = str(client.fine_tuning.jobs.retrieve(running.undisturbed).fine_tuned_model)
    asked = {"messages": [{"role": "user", "content": "Please look at refund number 7."}], "temperature": 0}
    chunks = list(client.chat.completions.create(model=tuned, **asked, max_tokens=8, stream=True))
    assert {chunk.model for chunk in chunks} == {tuned}
    logs = {
        name: client.chat.completions.create(model=name, **asked, max_tokens=1, logprobs=True).choices[0].logprobs
        for name in (tuned, "starter")
    }
    assert logs[tuned] != logs["starter"]


def test_a_run_that_comes_to_the_folder_of_runs_is_a_model_at_once(running: Running):
    client, job = running.client, running.client.fine_tuning.jobs.retrieve(running.undisturbed)
    before = {model.id for model in client.models.list()}
    with pytest.raises(NotFoundError, match="model"):
        client.models.retrieve("tickets")
    shutil.copytree(running.run_of(job).path, running.runs / "tickets")
    assert {model.id for model in client.models.list()} - before == {"tickets"}
    assert client.models.retrieve("tickets").owned_by == "luthier"
    other = OpenAI(base_url=running.served.url, api_key=mint(running.data, "another"), timeout=180)
    asked = {"messages": [{"role": "user", "content": "Please look at refund number 7."}], "temperature": 0}
    told = [
        who.chat.completions.create(model=name, **asked, max_tokens=4, logprobs=True)
        for who, name in ((client, str(job.fine_tuned_model)), (other, "tickets"))
    ]
    assert told[0].choices[0].logprobs == told[1].choices[0].logprobs and told[1].model == "tickets"
    with pytest.raises(PermissionDeniedError, match="belongs to all projects"):
        client.models.delete("tickets")
    with pytest.raises(NotFoundError):
        client.chat.completions.create(model="../runs/tickets", **asked)


def test_checkpoints_answer_with_the_weights_of_their_steps(running: Running):
    client = running.client.with_options(timeout=300)  # the first request waits for a package
    job = client.fine_tuning.jobs.retrieve(running.undisturbed)
    names = [one.fine_tuned_model_checkpoint for one in client.fine_tuning.jobs.checkpoints.list(job.id)]
    asked = {"messages": [{"role": "user", "content": "Please look at refund number 7."}], "temperature": 0}
    told = {}
    for name in (*names, str(job.fine_tuned_model), "starter"):
        answer = client.chat.completions.create(model=name, **asked, max_tokens=1, logprobs=True)
        assert answer.model == name and answer.choices[0].logprobs and answer.choices[0].logprobs.content
        told[name] = answer.choices[0].logprobs.content[0].logprob
    last, first = names
    assert len({told[first], told[last], told["starter"]}) == 3
    (ended,) = [entry for entry in entries(running.run_of(job).events) if entry["event"] == "trained"]
    assert told[f"{job.fine_tuned_model}:ckpt-step-{ended['best_step']}"] == told[str(job.fine_tuned_model)]


def test_jobs_whose_server_is_killed_five_times_end_in_the_same_bytes(running: Running):
    first = running.run_of(running.client.fine_tuning.jobs.retrieve(running.undisturbed))
    kills = 0
    while kills < KILLS:
        job = waited(running.served, submitted(running.client), step=0)
        while job.status == "running" and kills < KILLS:
            os.kill(running.served.process.pid, signal.SIGKILL)
            running.served.process.wait()
            running.again()
            kills += 1
            job = running.client.fine_tuning.jobs.retrieve(job.id)
        ended = waited(running.served, job, step=STEPS + 1)
        assert ended.status == "succeeded", ended
        run = running.run_of(ended)
        assert run.metrics.read_bytes() == first.metrics.read_bytes()
        weights = [(one.package / "model.safetensors").read_bytes() for one in (first, run)]
        assert weights[0] == weights[1]
        said = [event.message for event in running.client.fine_tuning.jobs.list_events(job.id, limit=100)]
        assert not any("another goes on" in text for text in said), "the worker did not survive its server"
