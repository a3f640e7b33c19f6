"""The main road as a user calls it, on a slice of the sample tickets: a run in a process of its own, killed and resumed,
adapters, plain text. How far training leads is measured elsewhere; here a few steps are enough.
"""

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from closed_network import calls, closed_network
from command import Called, in_own_process, luthier, needs_starter
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from luthier.config.load import dotted
from luthier.core.threads import child_environment

pytestmark = needs_starter
TICKETS = Path(__file__).parents[2] / "examples" / "demo" / "tickets.jsonl"
SETTINGS = {
    "seed": 3, "threads": 1, "data": {"input": "text", "output": ["kind", "fields"], "general": "none"}, "model": {"dtype": "float32"},
    "split": {"test_share": 0.2, "near_duplicate": 0.95}, "generate": {"max_new_tokens": 12, "batch_size": 2},
    "train": {"steps": 4, "lr": 1e-3, "batch_tokens": 1500, "validate_every": 2}, "compare": {"train_rows": 4, "resamples": 50, "folds": 0},
}  # fmt: skip
# Settings that stay empty in a finished run: not everything has a value.
MAY_STAY_EMPTY = {
    "data.test", "data.validation", "data.format", "data.group", "data.system", "data.encoding", "data.delimiter",
    "model.revision", "model.init", "model.enable_thinking", "train.warm_from", "compare.knowledge",
    "compare.dense", "compare.endpoint.url", "compare.endpoint.model", "compare.price",
    "check.presidio", "train.lr_multiplier", "train.batch_rows", "train.checkpoint_epochs", "generate.constrain",
}  # fmt: skip
# Ends this process as `kill -9` does, once the tuned arm has put its third batch of answers on the disk.
KILLED_WHILE_COMPARING = """
import os, signal
from luthier.cli.main import main
from luthier.core.journal import Journal

synced, sync = [], Journal.sync

def sync_and_die(journal):
    sync(journal)
    if str(journal._stream.name).endswith("tuned.partial.jsonl"):
        synced.append(1)
        if len(synced) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

Journal.sync = sync_and_die
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 lines of tickets, one of them broken, and the settings."""
    folder = tmp_path_factory.mktemp("road")
    lines = TICKETS.read_text(encoding="utf-8").splitlines()
    good = [line for line in lines if line.startswith('{"text": "') and line.endswith("}}")][:59]
    (folder / "tickets.jsonl").write_text("\n".join([*good[:30], '{"text": "Is the trai', *good[30:]]) + "\n")
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


@pytest.fixture(scope="module")
def called(folder: Path) -> Called:
    """The undisturbed run, as `--json` printed it. It has no network to call."""
    done = in_own_process(
        "run", folder / "tickets.jsonl", "--config", folder / "settings.yaml", "--out", folder / "run", "--json",
        environment=closed_network(folder),
    )  # fmt: skip
    assert done.code == 0, done.err
    return done


@pytest.fixture
def run(called: Called, folder: Path) -> Path:
    return folder / "run"


def test_standard_output_is_one_json_document_and_it_is_the_verdict(called: Called, run: Path):
    assert json.loads(called.out) == json.loads((run / "verdict.json").read_text())


def test_a_run_with_a_local_model_asks_the_network_nothing(called: Called, run: Path, folder: Path):
    assert (run / "package" / "certificate.json").exists()
    assert not calls(folder).exists(), calls(folder).read_text()


def test_the_closed_network_would_be_noticed(tmp_path: Path):
    call = "import socket; socket.create_connection(('127.0.0.1', 1))"
    command = [sys.executable, "-c", call]
    done = subprocess.run(command, env=closed_network(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "the network is closed" in done.stderr
    assert "127.0.0.1" in calls(tmp_path).read_text()


def test_words_go_to_standard_error_and_say_what_was_chosen(called: Called):
    assert called.err.startswith("model: starter")
    for words in (
        "tickets.jsonl: ",
        "1 set aside (1 invalid-json)",
        "training every weight",
        "plan: about",
        "grading with json_fields",
    ):
        assert words in called.err
    for noise in ("Loading weights", "Writing model", "Warning", "Traceback", "deprecated"):
        assert noise not in called.err


def test_every_line_of_the_file_is_in_the_ledger(called: Called, run: Path):
    data, ledger = json.loads(called.out)["data"], pq.read_table(run / "ledger.parquet").to_pylist()
    assert data["read"] == len(ledger) == 60
    assert data["train"] + data["validation"] + data["test"] + sum(data["dropped"].values()) == 60
    assert sorted(row["line"] for row in ledger) == list(range(1, 61))
    assert [(row["line"], row["fate"], row["rule"]) for row in ledger if row["rule"] == "invalid-json"] == [
        (31, "dropped", "invalid-json")
    ]
    assert all(row["trained_tokens"] > 0 for row in ledger if row["fate"] == "train")


def test_every_arm_answers_the_same_sealed_rows(called: Called, run: Path):
    verdict = json.loads(called.out)
    tables = {arm: pq.read_table(run / "answers" / f"{arm}.parquet").to_pylist() for arm in verdict["arms"]}
    sealed = {row["id"] for row in pq.read_table(run / "ledger.parquet").to_pylist() if row["part"] == "test"}
    for rows in tables.values():
        assert len(rows) == verdict["data"]["test"]
        assert {row["id"] for row in rows} == sealed
        assert all(json.loads(row["messages"])[-1]["role"] == "user" for row in rows)
    assert verdict["arms"]["tuned"]["score"] == pytest.approx(
        sum(row["score"] for row in tables["tuned"]) / len(sealed)
    )


def test_config_says_everything_that_was_chosen(run: Path):
    tree = yaml.safe_load((run / "config.yaml").read_text())
    empty = {key for key in dotted() if _at(tree, key) is None}
    assert empty <= MAY_STAY_EMPTY


def test_env_names_versions_and_machine(run: Path):
    env = json.loads((run / "env.json").read_text())
    assert env["packages"]["torch"] and env["cores"] >= 1 and env["threads"] >= 1


def test_the_report_is_one_file_that_needs_no_other(called: Called, run: Path):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert json.loads(called.out)["because"].split(":")[0] in page
    assert re.findall(r"""(?:src|href)=["']?(?!#|data:)[^"'>\s]+""", page) == []
    assert "url(http" not in page and "@import" not in page


def test_the_package_answers_in_plain_transformers_as_the_tuned_arm_did(run: Path):
    model = AutoModelForCausalLM.from_pretrained(run / "package", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(run / "package")
    rows = pq.read_table(run / "answers" / "tuned.parquet").to_pylist()[:4]
    for row in rows:
        asked = tokenizer.apply_chat_template(
            json.loads(row["messages"]), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        tokens = model.generate(**asked, do_sample=False, max_new_tokens=12)
        assert isinstance(tokens, Tensor)
        answer = tokens[0, asked["input_ids"].shape[1] :]
        assert tokenizer.decode(answer, skip_special_tokens=True) == row["completion"]


def test_a_run_killed_while_it_compares_goes_on_row_by_row(called: Called, run: Path, folder: Path):
    again = folder / "killed"
    arguments = ["run", folder / "tickets.jsonl", "--config", folder / "settings.yaml", "--out", again, "--json"]
    died = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_COMPARING, *map(str, arguments)],
        env=child_environment(1),
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    kept = [json.loads(line) for line in (again / "answers" / "tuned.partial.jsonl").read_text().splitlines()]
    assert len(kept) == 6 and not (again / "verdict.json").exists()
    resumed = luthier("resume", again, "--json")
    assert resumed.code == 0, resumed.err
    assert "trained " not in resumed.err, "training was finished and must not run again"
    answers = {row["id"]: row for row in pq.read_table(again / "answers" / "tuned.parquet").to_pylist()}
    assert all(answers[line["row"]]["seconds"] == line["seconds"] for line in kept), (
        "answers on the disk were asked again"
    )
    for arm in ("classical", "zero_shot", "tuned"):
        assert _untimed(again / "answers" / f"{arm}.parquet") == _untimed(run / "answers" / f"{arm}.parquet")
    assert (again / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert json.loads(resumed.out)["arms"]["tuned"]["score"] == json.loads(called.out)["arms"]["tuned"]["score"]


def test_a_finished_run_has_nothing_to_resume(run: Path):
    before = (run / "verdict.json").read_bytes()
    again = luthier("resume", run, "--json")
    assert again.code == 0 and "nothing to do" in again.err
    assert (run / "verdict.json").read_bytes() == before


def test_a_small_run_makes_an_adapter_and_merged_weights_of_the_same_model(folder: Path, tmp_path: Path):
    settings = {**SETTINGS, "data": {**SETTINGS["data"], "path": str(folder / "tickets.jsonl")}, "generate": {}}  # type: ignore[dict-item]
    (folder / "lora.yaml").write_text(yaml.safe_dump(settings))
    flags = ("--set", "train.method=lora", "--set", "train.lora.rank=4")
    called = in_own_process(
        "train", folder / "lora.yaml", *flags, "--out", folder / "lora", environment=closed_network(tmp_path)
    )
    assert called.code == 0, called.err
    assert not calls(tmp_path).exists(), "who writes adapters has asked a hub for their base"
    package = Path(called.out.strip())
    adapter = json.loads((package / "adapter_config.json").read_text())
    assert adapter["r"] == 4 and not adapter["modules_to_save"], "servers load low-rank layers and nothing else"
    assert all(".lora_" in name for name in load_file(package / "adapter_model.safetensors"))
    merged = luthier("export", folder / "lora", "--format", "merged", "--to", folder / "merged", "--json")
    assert merged.code == 0, merged.err
    assert json.loads(merged.out)["certificate"]["tokens_equal"] is True
    base = AutoModelForCausalLM.from_pretrained(
        json.loads((package / "adapter_config.json").read_text())["base_model_name_or_path"], dtype="float32"
    )
    tokens = AutoTokenizer.from_pretrained(folder / "merged")("We need a tandem tomorrow.", return_tensors="pt")
    untuned = base(**tokens).logits
    tuned = PeftModel.from_pretrained(base, package)(**tokens).logits
    alone = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype="float32")(**tokens).logits
    assert (tuned - alone).abs().max() <= 5e-5 * tuned.abs().max() < (tuned - untuned).abs().max()
    assert not (folder / "lora" / "verdict.json").exists()
    again = luthier("resume", folder / "lora", "--json")
    assert "finished" in again.err
    assert json.loads(again.out) == {"run": str(folder / "lora"), "package": str(package)}
    chosen = yaml.safe_load((folder / "lora" / "config.yaml").read_text())
    rows = pq.read_table(folder / "lora" / "ledger.parquet").to_pylist()
    longest = max(row["trained_tokens"] for row in rows if row["part"] == "train")
    assert chosen["generate"]["max_new_tokens"] == math.ceil(1.25 * longest), "a later comparison has this budget"
    assert chosen["train"]["epochs"] == pytest.approx(
        4 / json.loads((folder / "lora" / "plan.json").read_text())["steps_per_epoch"], abs=1e-4
    )


def test_plain_text_is_judged_by_bits_per_byte(folder: Path):
    texts = folder / "texts"
    texts.mkdir()
    tickets = [
        json.loads(line)["text"]
        for line in TICKETS.read_text().splitlines()
        if line.startswith('{"text": "') and line.endswith("}}")
    ][100:190]
    for number in range(9):
        (texts / f"{number}.txt").write_text("\n\n".join(tickets[10 * number : 10 * number + 10]))
    settings = folder / "text.yaml"
    settings.write_text(yaml.safe_dump({**SETTINGS, "data": {}, "train": {**SETTINGS["train"], "objective": "text"}}))  # type: ignore[dict-item]
    called = luthier("run", texts, "--config", settings, "--out", folder / "text", "--json")
    assert called.code == 0, called.err
    verdict = json.loads(called.out)
    assert verdict["grader"] == "bits_per_byte" and verdict["lower_is_better"] is True
    assert 0 < verdict["arms"]["tuned"]["score"] < verdict["arms"]["zero_shot"]["score"] < 8


def _at(tree: object, key: str) -> object:
    for name in key.split("."):
        if not isinstance(tree, dict):
            return ""
        tree = tree[name]
    return tree


def _untimed(path: Path) -> list[dict[str, object]]:
    return pq.read_table(path).drop_columns(["seconds"]).to_pylist()
