"""The commands that look at a finished run, as a user calls them: what they print is what the run is."""

import json
import shutil
from pathlib import Path

import pytest
from small_run import finished, needs_starter
from typer.testing import CliRunner

import luthier
from luthier.cli.main import app
from luthier.config.settings import Settings
from luthier.kernels import native
from luthier.models.load import find_model, stop_tokens
from luthier.recipes.show import TRAINED_END, TRAINED_START

pytestmark = needs_starter


def output(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_show_marks_exactly_the_trained_tokens():
    run = finished()
    shown = output("show", run.path, "--row", 1)
    (trained,) = [part.split(TRAINED_END)[0] for part in shown.split(TRAINED_START)[2:]]
    assert trained == "billing<|end|>"
    found = json.loads(output("show", run.path, "--row", 1, "--json"))
    (sequence,) = found["sequences"]
    assert "".join(token["text"] for token in sequence["tokens"] if token["weight"]) == trained
    assert f"{len(sequence['tokens'])} tokens" in shown


def test_show_finds_a_row_of_any_part_by_its_id():
    run = finished()
    tested = next(entry for entry in run.ledger.to_pylist() if entry["fate"] == "test")
    assert json.loads(output("show", run.path, "--row", tested["id"], "--json"))["line"] == tested["line"]
    with pytest.raises(luthier.DataError, match="no row 'x'"):
        output("show", run.path, "--row", "x")


def test_show_keeps_characters_of_several_tokens_whole(tmp_path: Path):
    """Decoded token by token, an emoji would come out as replacement characters."""
    copy = shutil.copytree(finished().path, tmp_path / "run")
    table = json.loads(output("show", copy, "--row", 1, "--json"))
    rewrite_first_row(copy, "ok \N{VIOLIN}\N{SNOWMAN}")
    shown = output("show", copy, "--row", table["id"])
    assert f"{TRAINED_START}ok \N{VIOLIN}\N{SNOWMAN}<|end|>{TRAINED_END}" in shown


def rewrite_first_row(path: Path, answer: str) -> None:
    from dataclasses import replace

    from luthier.core.rundir import RunDir
    from luthier.core.types import Conversation, Message
    from luthier.data.store import RowWriter, read_stored

    part = RunDir(path).part("train")
    first, *rest = read_stored(part)
    with RowWriter(part) as writer:
        asked = Message("user", "play it")
        for row in (replace(first, content=Conversation((asked, Message("assistant", answer)))), *rest):
            writer.write(row)


def test_show_says_where_the_rows_went_and_what_came_out():
    run = finished()
    data = run.verdict["data"]
    shown = output("show", run.path)
    assert (
        f"read 30, train {data['train']}, validation {data['validation']}, test {data['test']}, dropped none" in shown
    )
    assert "done: read, split, check, plan, train, compare, export, report" in shown
    assert run.verdict["outcome"] in shown


def test_runs_lists_every_run_folder_and_nothing_else(tmp_path: Path):
    shutil.copytree(finished().path, tmp_path / "mine")
    (tmp_path / "notes").mkdir()
    (listed,) = json.loads(output("runs", tmp_path, "--json"))
    assert listed["run"] == str(tmp_path / "mine")
    assert listed["stage"] == "finished"
    assert "no runs in" in output("runs", tmp_path / "notes")


def test_chat_answers_a_prompt_as_the_tuned_model_does():
    run = finished()
    assert output("chat", run.path, "--prompt", "My parcel is wrong, what now?").strip() == run.chat(
        "My parcel is wrong, what now?"
    )


def test_chat_remembers_and_an_empty_line_forgets():
    run = finished()
    talk = CliRunner().invoke(app, ["chat", str(run.path)], input="hello\nhello\n\nhello\n", catch_exceptions=False)
    first, second, third = talk.stdout.splitlines()
    history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first}]
    assert second == run.chat([*history, {"role": "user", "content": "hello"}])
    assert third == first == run.chat("hello")


def test_chat_refuses_an_unknown_arm_and_a_run_that_is_not_far_enough(tmp_path: Path):
    with pytest.raises(luthier.SettingsError, match="zero_shot or tuned"):
        output("chat", finished().path, "--arm", "best", "--prompt", "hi")
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    for arm in ("tuned", "zero_shot"):
        with pytest.raises(luthier.RunFolderError, match="luthier resume"):
            output("chat", tmp_path, "--arm", arm, "--prompt", "hi")


def test_export_writes_a_certified_package_and_refuses_an_adapter_where_there_is_none(tmp_path: Path):
    out = tmp_path / "package"
    printed = json.loads(output("export", finished().path, "--format", "merged", "--to", out, "--json"))
    certificate = printed["certificate"]
    assert certificate["tokens_equal"]
    assert certificate["relative_logit_difference"] <= certificate["bound"]
    assert certificate["differs_from_base"]
    assert json.loads((out / "certificate.json").read_text()) == certificate
    with pytest.raises(luthier.SettingsError, match="no adapter to write"):
        output("export", finished().path, "--format", "adapter", "--to", tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_package_that_fails_its_proof_is_withheld(tmp_path: Path):
    """With the tuned weights as the base, the tuned model does not differ from its base."""
    copy = shutil.copytree(finished().path, tmp_path / "run")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("name: starter", f"name: {copy / 'package'}"))
    with pytest.raises(luthier.ProofFailed, match="the tuning has no effect"):
        output("export", copy, "--format", "merged", "--to", tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_the_models_own_end_tokens_stop_an_answer(tmp_path: Path):
    """A model whose generation_config names more ends than its template must stop at those too."""
    folder = find_model(Settings().model)
    copy = shutil.copytree(folder.path, tmp_path / "model")
    (copy / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert stop_tokens(find_model(Settings.model_validate({"model": {"name": str(copy)}}).model)) == (7, 9)
    (copy / "generation_config.json").unlink()
    assert stop_tokens(find_model(Settings.model_validate({"model": {"name": str(copy)}}).model)) == ()


def test_doctor_measures_this_machine():
    facts = json.loads(output("doctor", "--json"))
    assert facts["cores"] >= 1
    assert all(rate > 1e6 for rate in facts["flops_per_second"].values())
    assert facts["faster"] in facts["flops_per_second"]
    assert all(model["fits"] == (model["memory_bytes"] < facts["free_memory_bytes"]) for model in facts["models"])
    said = output("doctor")
    assert "fast here" in said and ("compiled  norms and gates" in said) == (facts["compiled_why_not"] == "")


def test_doctor_says_why_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(native, "_found", native._found.__wrapped__)
    assert "compiled  nothing: there is no C++ compiler on this machine (no-such-compiler)" in output("doctor")


def test_schema_describes_every_setting():
    schema = json.loads(output("schema"))
    assert set(schema["properties"]) == {field.alias or name for name, field in Settings.model_fields.items()}
    assert schema["$defs"]["TrainSettings"]["properties"]["lr"]["description"] == "The highest learning rate."
