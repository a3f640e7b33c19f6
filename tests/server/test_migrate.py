"""Models leave a server that plays OpenAI: fetched, replaced, compared with the incumbent, answering under the old name."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import yaml
from openai.types.fine_tuning import FineTuningJob
from serving import Served, running, tickets
from test_real_job import waited

from luthier.core.errors import ResourceError, RunFailed, SettingsError
from luthier.core.rundir import RunDir, create
from luthier.core.threads import child_environment
from luthier.core.types import Conversation, Message, Part, Row
from luthier.data.store import RowWriter, read_stored
from luthier.recipes import run as road
from luthier.recipes.migrate import Wish, as_text, look, settings_of
from luthier.recipes.migrate_account import Account, Tuned
from luthier.recipes.migrate_money import Purse, most_money
from luthier.recipes.migrate_report import Replaced, page
from luthier.recipes.migrate_sample import sampled_of, within_reach
from luthier.recipes.voice import Voice
from luthier.verdict.cost import ArmPrice

pytestmark = pytest.mark.skipif(
    not Path(str(files("luthier.starter") / "model" / "model.safetensors")).exists(),
    reason="the starter's weights are not in this checkout",
)
VARIABLE = "KEY_OF_THE_OLD_PLACE"
ROWS = 80
WISH = Wish((), "starter", 6, 1.0, VARIABLE)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, FineTuningJob]]:
    with running(tmp_path_factory.mktemp("old") / "data") as served:
        client = served.client()
        file = client.files.create(file=("tickets.jsonl", tickets(ROWS)), purpose="fine-tune")
        asked = {"batch_size": 20, "n_epochs": 1}
        job = client.fine_tuning.jobs.create(model="starter", training_file=file.id, seed=3, hyperparameters=asked)  # type: ignore[arg-type]
        job = waited(served, job, step=99)
        assert job.status == "succeeded", job
        yield served, job


def command(served: Served, out: Path, *more: str, requests: int = 20) -> subprocess.Popen[str]:
    line = [
        sys.executable, "-m", "luthier.cli.main", "migrate", "openai", "--key", VARIABLE, "--base-url", served.url, "--out", str(out),
        "--model", "starter", "--requests", str(requests), "--margin", "1.0", "--set", "model.dtype=float32", "--set", "threads=1", "--json", *more,
    ]  # fmt: skip
    environment = {**child_environment(1), VARIABLE: served.key}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a command; return its exit code and what it said."""
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def killed_when_it_trains(process: subprocess.Popen[str], run: RunDir) -> None:
    """Kill a command without a warning once its rows are split."""
    while process.poll() is None and not run.done("split"):
        signal.sigtimedwait([], 0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_looking_changes_nothing_and_tells_what_would_be_done(old: tuple[Served, FineTuningJob], tmp_path: Path):
    served, job = old
    (step,) = look(Account(served.url, served.key), WISH, tmp_path / "out")
    assert (step.tuned.model, step.num_bytes, step.obstacle) == (job.fine_tuned_model, len(tickets(ROWS)), "")
    assert step.tuned.hyperparameters["batch_size"] == 20 and step.tuned.seed == 3
    assert "at most 6 questions" in as_text([step], WISH, tmp_path) and not (tmp_path / "out").exists()


def priced(tmp_path: Path, per_million: float = 10.0) -> Path:
    """A file that says what the incumbent costs."""
    path = tmp_path / "price.yaml"
    price = {"input_per_million": per_million, "output_per_million": 4 * per_million}
    path.write_text(yaml.safe_dump({"currency": "EUR", "arms": {"endpoint": price}}))
    return path


def test_a_model_is_replaced_and_answers_under_its_old_name(old: tuple[Served, FineTuningJob], tmp_path: Path):
    served, job = old
    paid = ("--price", str(priced(tmp_path)), "--money", "100")
    place = RunDir(tmp_path / "out" / job.id / "run")
    killed_when_it_trains(command(served, tmp_path / "out", "--yes", *paid), place)
    assert not place.verdict.exists()
    fetched = (tmp_path / "out" / job.id / "training.jsonl").stat().st_mtime_ns
    code, said, heard = finished(command(served, tmp_path / "out", "--yes", *paid))
    assert code == 0, heard
    assert (tmp_path / "out" / job.id / "training.jsonl").stat().st_mtime_ns == fetched, "it was fetched twice"
    (found,) = json.loads(said)
    assert found["model"] == job.fine_tuned_model and found["mapped"], "with a margin of 1 everything is good enough"
    run = Path(found["run"])
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["train"]["batch_rows"] == 20 and settings["train"]["epochs"] == 1 and settings["seed"] == 3
    answers = RunDir(run).arm_answers("endpoint").read_bytes()
    verdict = json.loads((run / "verdict.json").read_text())
    assert parquet.read_metadata(RunDir(run).arm_answers("endpoint")).num_rows == verdict["data"]["test"] <= 20
    assert all(served.key.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert served.key not in said + heard
    report = (tmp_path / "out" / "report.md").read_text()
    assert f"`{job.fine_tuned_model}`" in report and "EUR | yes |" in report and str(run / "report.html") in report
    assert f"luthier serve --config {tmp_path / 'out' / 'serve.yaml'}" in report and served.key not in report
    models = yaml.safe_load((tmp_path / "out" / "serve.yaml").read_text())
    with running(tmp_path / "new", models) as new:
        chat = (
            new.client()
            .with_options(timeout=300)
            .chat.completions.create(
                model=str(job.fine_tuned_model),
                messages=[{"role": "user", "content": "Please look at refund."}],
                max_tokens=4,
            )
        )
        assert chat.choices[0].message.content is not None
    code, said, heard = finished(command(served, tmp_path / "out", "--yes", *paid))
    assert json.loads(said) == [found], heard
    assert RunDir(run).arm_answers("endpoint").read_bytes() == answers, "answers were bought twice"
    code, _, heard = finished(command(served, tmp_path / "out", "--yes", *paid, "--job", job.id))
    assert code == 2 and "begun with another" in heard


@pytest.mark.nightly
def test_a_budget_that_does_not_reach_buys_nothing(old: tuple[Served, FineTuningJob], tmp_path: Path):
    served, job = old
    dear = ("--price", str(priced(tmp_path, 1000.0)), "--money", "0.01")
    for more, questions, words in (
        ((), 6, "may be asked 6 questions. Nothing was asked"),
        (dear, 20, "0.01 are left of the budget. Nothing was asked"),
    ):
        out = tmp_path / str(questions)
        code, _, heard = finished(command(served, out, "--yes", *more, requests=questions))
        assert code == 2 and words in heard
        place = RunDir(out / job.id / "run")
        assert place.done("split") and not place.done("plan") and not list(place.answers.glob("endpoint*"))
    place.events.write_text("")  # as if it had been killed before the rows were split
    code, _, heard = finished(command(served, out, "--yes", *dear))
    assert code == 2 and words in heard and not place.done("plan"), "what was killed early is asked without a budget"


def stored(run: RunDir, part: Part, texts: list[tuple[str, str]]) -> None:
    run.part(part).parent.mkdir(exist_ok=True)
    with RowWriter(run.part(part)) as writer:
        for number, (asked, answer) in enumerate(texts):
            turns = Conversation((Message("user", asked), Message("assistant", answer)))
            writer.write(Row(f"{part}-{number}", "f", number + 1, number + 1, turns))


def test_the_bound_on_money_is_one_for_every_tokenizer_and_shared_by_all_jobs(tmp_path: Path):
    run = create(tmp_path / "run", "x")
    questions = [("Where is my parcel?", "shipping"), ("\u00e9" * 100, "billing"), ("one two three four five", "a")]
    stored(run, "train", [("x", "a long answer " * 5)])
    stored(run, "test", questions)
    price = ArmPrice(input_per_million=1e6, output_per_million=0.0)
    for count in (lambda text: len(text.encode()), lambda text: len(text.split())):  # bytes, or words, for tokens
        assert sum(count(asked) + 8 for asked, _ in questions) <= most_money(run, price)
    answers = most_money(run, ArmPrice(output_per_million=1e6))
    assert answers >= 3 * 1.25 * len("a long answer " * 5)
    left = Purse(1.5 * answers, ArmPrice(output_per_million=1e6), "EUR").without(run, "ft:a")
    assert left.left == pytest.approx(0.5 * answers)
    with pytest.raises(ResourceError, match=r"asking ft:b the sealed test can cost up to .* EUR"):
        left.without(run, "ft:b")
    assert Purse(None, price, "EUR").without(run, "ft:a").left is None and Purse(None, price, "EUR").reach(run) == 1
    half = Purse(0.5 * answers, ArmPrice(output_per_million=1e6), "EUR")
    assert half.reach(run) == pytest.approx(0.5) and half.dealt(2).reach(run) == pytest.approx(0.25)


def test_of_a_test_that_is_larger_than_the_budget_a_sample_by_cluster_is_asked(tmp_path: Path):
    rng = random.Random(1)
    texts = [" ".join("".join(rng.choices("abcdefghij", k=7)) for _ in range(9)) for _ in range(150)]
    lines = [
        {"messages": [{"role": "user", "content": text + end}, {"role": "assistant", "content": f"answer {n % 7}"}]}
        for n, text in enumerate(texts)
        for end in ("", " please")
    ]
    (tmp_path / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tuned = Tuned("ftjob-1", "gpt", "ft:gpt", "supervised", {}, 7, "file-1", None)
    settings = settings_of(tuned, replace(WISH, requests=1000), "http://host/v1", tmp_path)
    folder, begun = RunDir(tmp_path / "run"), tmp_path / "rows"
    road.prepared(None, settings, folder.path, Voice(quiet=True))
    whole = asked(folder)
    within_reach(settings, folder, lambda run: 1.0, Voice(quiet=True), begun)
    assert asked(folder) == whole and sampled_of(folder) is None, "a budget that reaches changes nothing"
    within_reach(settings, folder, lambda run: 12 / len(asked(run)), Voice(quiet=True), begun)
    sample = asked(folder)
    assert 0 < len(sample) <= 12 < len(whole) and sample < whole
    pairs = {text.removesuffix(" please") for text in sample}
    assert sample == {text + end for text in pairs for end in ("", " please")}, "a cluster was torn apart"
    figures = {"score": 0.5}
    verdict = {"grader": "exact", "data": {"test": len(sample)}, "arms": {"endpoint": figures, "tuned": figures}}
    folder.verdict.write_text(json.dumps(verdict))
    said = page(
        "https://host/v1", [Replaced("ft:gpt", folder.path, "worse", 0.0, (-0.1, 0.1))], [], tmp_path / "s", "EUR"
    )
    assert f"| {len(sample)} of {len(whole)} |" in said and "by the seed of the job" in said


def asked(run: RunDir) -> set[str]:
    """The questions of the sealed test."""
    return {row.content.messages[0].content for row in read_stored(run.part("test"))}  # type: ignore[union-attr]


def test_a_budget_without_a_price_is_refused_before_anything_is_done(old: tuple[Served, FineTuningJob], tmp_path: Path):
    served, _ = old
    with pytest.raises(SettingsError, match="--money needs --price"):
        look(Account(served.url, served.key), replace(WISH, money=5.0), tmp_path / "out")
    (step,) = look(
        Account(served.url, served.key), wish := replace(WISH, money=5.0, price=str(priced(tmp_path))), tmp_path
    )
    assert "as far as 5 EUR reach for all jobs together" in as_text([step], wish, tmp_path)


def test_the_report_names_what_was_left_out_and_what_is_not_proven(tmp_path: Path):
    said = page(
        "https://host/v1", [], [("ft:gone", "its file file-1 is deleted there")], tmp_path / "serve.yaml", "USD"
    )
    assert "- ft:gone: its file file-1 is deleted there." in said and "luthier serve" not in said


def test_a_replacement_that_is_not_proven_gets_no_name(tmp_path: Path):
    outcomes = ("better", "equivalent", "not worse", "undecided", "worse")
    proven = [Replaced("ft:x", tmp_path, outcome, 0.0, (-0.1, 0.1)).proven for outcome in outcomes]
    assert proven == [True, True, True, False, False]


def test_a_file_that_was_deleted_is_told_by_job(old: tuple[Served, FineTuningJob], tmp_path: Path):
    served, job = old
    client = served.client()
    kept = client.files.content(job.training_file).read()
    account = Account(served.url, served.key)
    account.fetch(job.training_file, tmp_path / "a" / "training.jsonl")
    assert (tmp_path / "a" / "training.jsonl").read_bytes() == kept
    assert account.size("file-that-is-not-there") is None


def test_what_is_fetched_is_not_fetched_again(tmp_path: Path):
    (tmp_path / "training.jsonl").write_bytes(b"x")
    Account("http://127.0.0.1:9/v1", "key").fetch("file-1", tmp_path / "training.jsonl")
    assert (tmp_path / "training.jsonl").read_bytes() == b"x"


def test_an_unknown_job_a_wrong_key_and_an_address_with_a_password_are_errors(
    old: tuple[Served, FineTuningJob], tmp_path: Path
):
    served, job = old
    with pytest.raises(SettingsError, match=job.id):
        look(Account(served.url, served.key), Wish((job.id[:-1],), None, 5, None, VARIABLE), tmp_path)
    with pytest.raises(RunFailed, match="401"):
        Account(served.url, "sk-wrong").tuned()
    with pytest.raises(SettingsError, match="--base-url"):
        Account("https://me:secret@host/v1", "key")


def test_the_sealed_test_is_never_larger_than_the_budget(tmp_path: Path):
    tuned = Tuned("ftjob-1", "gpt", "ft:gpt", "supervised", {"n_epochs": "auto"}, 2**40, "file-1", None)
    settings = settings_of(tuned, WISH, "http://host/v1", tmp_path)
    assert settings.split.test_rows == 6 == settings.compare.endpoint.requests
    assert settings.train.epochs is None and settings.compare.choosing_rows == 0 and settings.compare.latency_rows == 0
