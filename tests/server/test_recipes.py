"""From a request to the settings of a run, from a file to its faults, from a run folder to figures."""

import gzip
import json
from pathlib import Path

import pytest
from desks import Bench, bench, uploaded
from serving import tickets

from luthier.config.load import dump
from luthier.config.serving import ServeSettings, as_json, load_serving, parse_serving
from luthier.config.settings import Settings
from luthier.core.errors import SettingsError
from luthier.core.rundir import RunDir, create, write_json
from luthier.core.types import JsonObject
from luthier.recipes.progress import Tail, as_metrics, result_csv
from luthier.recipes.serve import tuned_name
from luthier.recipes.training_file import examine
from luthier.recipes.tuning_settings import chosen_hyperparameters, job_settings, threads


@pytest.fixture
def desk(tmp_path: Path) -> Bench:
    return bench(tmp_path / "data")


def settings_for(desk: Bench, rows: int = 500, serving: ServeSettings | None = None, **changes: object) -> Settings:
    job = desk.jobs.create(desk.submission(uploaded(desk), **changes))
    return job_settings(job, serving or ServeSettings(threads=1), desk.folder.job(job.id), rows)


def asked(**hyperparameters: float | str) -> dict[str, JsonObject]:
    return {
        "hyperparameters": {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
        | hyperparameters
    }


def test_what_a_request_leaves_open_is_left_to_the_plan(desk: Bench):
    settings = settings_for(desk, **asked())
    assert (settings.train.epochs, settings.train.batch_rows, settings.train.lr_multiplier) == (None, None, None)
    assert (settings.split.test_share, settings.split.validation_share) == (0.0, Settings().split.validation_share)
    assert settings.seed == 1 and settings.threads == 1 and settings.data.max_bad_share == 0


def test_hyperparameters_become_settings_and_win_over_the_servers(desk: Bench):
    serving = parse_serving(
        {"job": {"train": {"steps": 9, "epochs": 1, "batch_tokens": 5, "method": "lora"}}, "threads": 1}
    )
    settings = settings_for(desk, serving=serving, **asked(n_epochs=3, batch_size=8, learning_rate_multiplier=0.5))
    train = settings.train
    assert (train.epochs, train.steps, train.batch_rows, train.batch_tokens, train.lr_multiplier) == (
        3,
        None,
        8,
        None,
        0.5,
    )
    assert train.method == "lora" and train.patience == 0
    assert settings.split.validation_share == 0, "all rows are trained, all epochs are walked"


def test_few_rows_are_all_trained_and_a_validation_file_is_used(desk: Bench):
    assert settings_for(desk, rows=199, **asked()).split.validation_share == 0
    with_file = settings_for(desk, **asked(), validation_file=uploaded(desk).id)
    assert with_file.data.validation is not None and with_file.data.validation.endswith("/validation.jsonl")


def test_going_on_from_a_checkpoint_trains_the_same_layers(desk: Bench, tmp_path: Path):
    run = create(tmp_path / "run", "x")
    before = parse_serving(
        {"job": {"model": {"name": "a/b"}, "train": {"method": "lora", "lora": {"rank": 7, "alpha": 9.0}}}}
    )
    run.config.write_text(dump(before.job))
    checkpoint = run.checkpoints / "000004"
    settings = settings_for(desk, **asked(n_epochs=2), warm_from=str(checkpoint))
    assert settings.train.warm_from == str(checkpoint) and settings.model.name == "a/b"
    assert (settings.train.method, settings.train.lora.rank, settings.train.epochs) == ("lora", 7, 2)


def test_what_was_chosen_is_told_in_whole_epochs_and_rows(desk: Bench, tmp_path: Path):
    run = create(tmp_path / "run", "x")
    run.config.write_text(dump(Settings()))
    write_json(run.plan, {"steps": 30, "steps_per_epoch": 10, "seconds": 1.0})
    write_json(run.certificate, {"rows": {"train": 80}})
    job = desk.jobs.create(desk.submission(uploaded(desk), **asked(learning_rate_multiplier="auto")))
    assert chosen_hyperparameters(run, job) == {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}


@pytest.mark.parametrize(
    ("model", "suffix", "wanted"),
    [("starter", None, "ft:starter:luthier::"), ("gpt-4o", "my tickets/1", "ft:gpt-4o:luthier:my-tickets-1:"),
     ("ft:gpt-4o:luthier:a:12345678:ckpt-step-3", "b", "ft:gpt-4o:luthier:b:")],
)  # fmt: skip
def test_a_tuned_model_is_named_in_openais_form(desk: Bench, model: str, suffix: str | None, wanted: str):
    job = desk.jobs.create(desk.submission(uploaded(desk), model=model, request={"suffix": suffix}))
    assert tuned_name(job) == wanted + job.id.removeprefix("ftjob-")[:12]


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (tickets(9), "invalid_n_examples", "at least 10"),
        (b"", "invalid_n_examples", "has 0 example"),
        (b"text,label\na,b\n" * 20, "invalid_training_file", "cannot be used"),
        (b'{"prompt": "a", "completion": "b"}\n' * 12, "invalid_training_file", "no-messages"),
        (tickets(12) + b'{"messages": [{"role": "user", "content": "x"}]}\n', "invalid_training_file", "line 13 (byte "),
        (tickets(12).replace(b"invoice", b"inv\xffice", 1), "invalid_training_file", ""),
        (gzip.compress(tickets(12)), "invalid_training_file", "plain JSON lines"),
        (b"PK\x03\x04" + b"x" * 100, "invalid_training_file", "zip"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_trained_on_is_told_apart(tmp_path: Path, data: bytes, code: str, words: str):
    path = tmp_path / "training.jsonl"
    path.write_bytes(data)
    verdict = examine(path, "training_file")
    assert verdict.error is not None and verdict.error["code"] == code and words in str(verdict.error["message"])
    assert str(tmp_path) not in str(verdict.error["message"])


def test_a_good_file_is_counted(tmp_path: Path):
    path = tmp_path / "training.jsonl"
    path.write_bytes(tickets(12))
    assert examine(path, "training_file").num_rows == 12 and examine(path, "training_file").error is None


def test_a_journal_is_read_piece_by_piece_and_torn_lines_are_waited_for(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.added() == []
    path.write_text('{"step": 1}\n{"st')
    assert tail.added() == [{"step": 1}] and tail.added() == []
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert tail.added() == [{"step": 2}]


def test_long_trainings_are_told_in_about_a_thousand_steps_and_every_validation(tmp_path: Path):
    lines: list[JsonObject] = [{"step": step, "loss": (2.0).hex()} for step in range(1, 5001)]
    lines[6]["validation_loss"] = (1.5).hex()
    told = as_metrics(lines, 5000)
    assert len(told) == 1002 and {1, 5, 7, 5000} <= {entry.step for entry in told}
    (seventh,) = [entry for entry in told if entry.step == 7]
    assert seventh.message == "Step 7/5000: training loss=2.00, validation loss=1.50"
    assert seventh.data == {"step": 7, "train_loss": 2.0, "valid_loss": 1.5, "full_valid_loss": 1.5}


def test_the_result_file_has_openais_columns(tmp_path: Path):
    run = RunDir(tmp_path)
    run.metrics.write_text(json.dumps({"step": 1, "loss": (0.5).hex(), "validation_loss": (0.25).hex()}) + "\n")
    assert result_csv(run) == b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.5,,0.25,\n"


def test_settings_of_the_server_are_strict_and_survive_being_written(tmp_path: Path):
    file = tmp_path / "serve.yaml"
    file.write_text("workers: 2\njob: {train: {lr: 0.1}}\n")
    serving = load_serving([file])
    assert parse_serving(as_json(serving)) == serving and serving.job.train.lr == 0.1
    assert threads(ServeSettings(threads=3)) == 3 and threads(ServeSettings(workers=100)) == 1
    file.write_text("worker: 2\njob: {train: {lrr: 0.1}}\n")
    with pytest.raises(SettingsError, match=r"(?s)job.train.lrr: .*Did you mean 'workers'"):
        load_serving([file])
