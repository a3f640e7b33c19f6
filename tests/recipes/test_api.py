"""The Python API over one real small run: what it shows is what the folder holds, and what the command would have made."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import SETTINGS, WEIGHTS, finished, needs_starter, rows
from typer.testing import CliRunner

import luthier
from luthier.cli.main import app
from luthier.core.journal import cut, entries
from luthier.core.rundir import RunDir
from luthier.generate.engine import MOST_ROWS
from luthier.recipes.prepare import ORIGINS

pytestmark = needs_starter


def test_a_run_shows_what_its_folder_holds():
    run = finished()
    assert run.verdict == json.loads((run.path / "verdict.json").read_text())
    assert run.ledger.equals(pq.read_table(run.path / "ledger.parquet"))
    assert run.ledger.num_rows == run.verdict["data"]["read"] == 30
    assert run.settings.train.steps == 3
    assert run.settings.train.lr, "what was chosen is written back"
    assert repr(run) == f"Run({str(run.path)!r}, {run.verdict['outcome']})"


def test_how_many_prompts_run_at_once_is_written_back():
    assert yaml.safe_load((finished().path / "config.yaml").read_text())["generate"]["batch_size"] == MOST_ROWS


def test_answers_are_one_table_over_all_arms():
    run = finished()
    answers = run.answers
    assert isinstance(answers, pa.Table)
    assert answers.column_names[:4] == ["arm", "id", "file", "line"]
    arms = run.verdict["arms"]
    by_arm = answers.group_by("arm", use_threads=False).aggregate([("score", "mean"), ("id", "count")]).to_pylist()
    assert {entry["arm"]: entry["score_mean"] for entry in by_arm} == pytest.approx({n: arms[n]["score"] for n in arms})
    assert {entry["id_count"] for entry in by_arm} == {run.verdict["data"]["test"]}


def test_the_model_is_plain_has_the_best_weights_and_answers_like_the_tuned_arm():
    run = finished()
    model = run.model
    assert type(model).__module__.startswith("transformers.")
    assert not model.training
    answered = next(entry for entry in run.answers.to_pylist() if entry["arm"] == "tuned")
    messages = json.loads(answered["messages"])
    prompt = run.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    tokens = model.generate(**prompt, max_new_tokens=SETTINGS["generate.max_new_tokens"], do_sample=False)[0]
    answer = run.tokenizer.decode(tokens[prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == answered["completion"] == run.chat(messages)


def test_chat_takes_a_text_or_messages_and_refuses_others():
    run = finished()
    assert run.chat("Where is my parcel?") == run.chat([{"role": "user", "content": "Where is my parcel?"}])
    with pytest.raises(luthier.DataError, match="no-messages"):
        run.chat([])
    with pytest.raises(luthier.DataError, match="role"):
        run.chat([{"role": "usr", "content": "hello"}])


def test_a_notebook_shows_the_report_in_a_frame(tmp_path: Path):
    report = finished().report
    shown = report._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert '"' not in shown.removeprefix('<iframe srcdoc="').split('" style=')[0]
    assert report.save(tmp_path / "new" / "report.html").read_bytes() == report.path.read_bytes()


def test_the_command_gives_the_same_answers_and_verdict_as_the_api(tmp_path: Path):
    """Same rows, same seed. What takes time differs, so does where the rows come from, and nothing else."""
    file = tmp_path / "tickets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    assignments = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    arguments = ["run", str(file), "--input", "text", "--output", "queue", "--out", str(tmp_path / "run"), "--json"]
    done = CliRunner().invoke(app, [*arguments, *assignments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    printed, api = json.loads(done.stdout), finished()
    assert printed == luthier.open(tmp_path / "run").verdict
    assert untimed(printed) == untimed(api.verdict)
    columns = ["arm", "messages", "answer", "completion", "finish_reason", "score", "grades", "tokens_in", "tokens_out"]
    assert luthier.open(tmp_path / "run").answers.select(columns).equals(api.answers.select(columns))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (api.path / "metrics.jsonl").read_bytes()


def untimed(verdict: dict) -> dict:
    """Leave out what cannot repeat: times, speeds and memory."""
    arms = {
        name: {key: value for key, value in arm.items() if key not in ("seconds", "cost")}
        for name, arm in verdict["arms"].items()
    }
    rest = {key: value for key, value in verdict.items() if key not in ("run", "plan", "measured", "arms")}
    return {**rest, "arms": arms}


def test_a_run_over_python_rows_resumes_from_what_it_stored(tmp_path: Path):
    """Stopped after training: the answers are made anew, and are the same."""
    run = finished()
    copy = shutil.copytree(run.path, tmp_path / "copy")
    forget_stages(RunDir(copy), ("compare", "export", "report"))
    shutil.rmtree(copy / "answers")
    (copy / "answers").mkdir()
    (copy / "verdict.json").unlink()
    again = luthier.resume(copy, quiet=True)
    assert again.answers.drop(["seconds"]).equals(run.answers.drop(["seconds"]))


def test_python_rows_that_were_never_stored_cannot_be_read_again(tmp_path: Path):
    copy = shutil.copytree(finished().path, tmp_path / "copy")
    forget_stages(RunDir(copy), ("read", "split", "check", "plan", "train", "compare", "export", "report"))
    for origin in ORIGINS:
        RunDir(copy).read_rows(origin).unlink()
    with pytest.raises(luthier.RunFolderError, match="Start a new run with the same rows"):
        luthier.resume(copy, quiet=True)


def forget_stages(run: RunDir, stages: tuple[str, ...]) -> None:
    kept = [entry for entry in entries(run.events) if entry.get("stage") not in stages]
    cut(run.events, 0)
    for entry in kept:
        run.event(str(entry.pop("event")), **{key: value for key, value in entry.items() if key != "time"})


def test_settings_win_over_files_and_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file = tmp_path / "a.yaml"
    file.write_text("data: {max_bad_share: 0.5}\nmodel: {name: nobody/nothing}\n")
    with pytest.raises(luthier.ModelError, match="no/where"):
        luthier.run(rows(), input="text", output="queue", out=tmp_path / "run", config=[file], model="a/b",
                    settings={"model.name": "no/where"}, quiet=True)  # fmt: skip
    assert luthier.open(tmp_path / "run").settings.data.max_bad_share == 0.5


def test_wrong_settings_and_no_rows_leave_no_folder(tmp_path: Path):
    with pytest.raises(luthier.SettingsError, match=r"Did you mean 'train\.lr'"):
        luthier.run(rows(), out=tmp_path / "run", settings={"train.lrr": 1}, quiet=True)
    with pytest.raises(luthier.DataError, match="there is no data"):
        luthier.run(out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_absent_run_and_an_unfinished_one_say_what_to_do(tmp_path: Path):
    with pytest.raises(luthier.RunFolderError, match="luthier runs"):
        luthier.open(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    run = luthier.open(tmp_path)
    assert repr(run).endswith("unfinished)")
    for name in ("verdict", "answers", "ledger", "report"):
        with pytest.raises(luthier.RunFolderError, match="luthier resume"):
            getattr(run, name)


def test_a_base_model_without_a_template_learns_text_and_is_exported(tmp_path: Path):
    model = shutil.copytree(WEIGHTS.parent, tmp_path / "model")
    (model / "chat_template.jinja").unlink()
    words = "river stone maple copper violet lantern harbor meadow thunder willow ember".split()
    documents = [{"text": " ".join(words[n % 11 :] + words[: n % 7] + [str(n)])} for n in range(30)]
    settings = {**SETTINGS, "train.objective": "text"}
    run = luthier.run(documents, model=model, out=tmp_path / "run", settings=settings, quiet=True)
    assert run.verdict["grader"] == "bits_per_byte"
    assert run.verdict["arms"]["tuned"]["score"] < run.verdict["arms"]["zero_shot"]["score"]
    assert json.loads((run.path / "package" / "certificate.json").read_text())["tokens_equal"]
    assert run.answers.num_rows == 2 * run.verdict["data"]["test"]
    with pytest.raises(luthier.ModelError, match="no chat template"):
        run.chat("hello")
