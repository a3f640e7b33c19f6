"""Settings act where a user sets them: each of these fails when the recipe does not hand its setting on.

What a setting does in depth is tested beside its room; here it goes from its dotted key through the stages of a run.
"""

import csv
import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from command import STARTER, in_own_process, needs_starter
from small_run import finished
from small_run import rows as tickets
from typer.testing import CliRunner

from luthier.cli.main import app
from luthier.config.load import load
from luthier.config.settings import ModelSettings, Settings
from luthier.core.rundir import create
from luthier.core.types import Conversation, JsonValue, Message, Part
from luthier.graders import accuracy
from luthier.models.load import find_model
from luthier.recipes.job import Job
from luthier.recipes.plan import plan_stage, write_ledger
from luthier.recipes.prepare import read_stage, split_stage
from luthier.recipes.voice import Voice
from luthier.verdict.answers import answer_rows, arm_summary, read_answers

pytestmark = needs_starter
SMALL = {
    "split.near_duplicate": 1, "split.test_rows": 6, "split.test_share": 0.3, "model.dtype": "float32", "threads": 1,
}  # fmt: skip


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepared(folder: Path, data: Path, settings: dict[str, JsonValue]) -> Job:
    """A run whose rows are read and split."""
    named = {"data.path": str(data), "data.input": "text", "data.output": ["queue"], **SMALL, **settings}
    job = Job(create(folder, "settings"), load([], [], named), Voice(quiet=True))  # type: ignore[arg-type]
    read_stage(job, None)
    split_stage(job)
    return job


def texts(job: Job, *parts: Part) -> list[str]:
    found = [row.content for part in parts for row in job.rows(part)]
    return [content.messages[-2].content for content in found if isinstance(content, Conversation)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return written(tmp_path / "tickets.jsonl", tickets())


def ledger(job: Job) -> list[dict]:
    write_ledger(job)
    return pq.read_table(job.run.ledger).to_pylist()


MAX = 80
LONG = {"text": "the parcel " + "is still on its way and " * 4 + "not here", "queue": "shipping " * 20}


@pytest.mark.parametrize("truncate", ["drop", "start", "end"])
def test_rows_longer_than_max_length_are_dropped_or_cut_and_the_ledger_says_so(tmp_path, truncate):
    data = written(tmp_path / "long.jsonl", [*tickets(), LONG])
    none_held = {"split.test_share": 0.0, "split.validation_share": 0.0}
    job = prepared(tmp_path / "run", data, {"train.max_length": MAX, "train.truncate": truncate, **none_held})  # type: ignore[dict-item]
    entry = next(entry for entry in ledger(job) if entry["line"] == 31)
    if truncate == "drop":
        assert (entry["fate"], entry["part"]) == ("dropped", None)
        return
    assert (entry["fate"], entry["rule"], entry["tokens"]) == ("truncated", "truncated", MAX)
    whole = ledger(prepared(tmp_path / "whole", data, none_held))[-1]  # type: ignore[arg-type]
    assert whole["tokens"] == entry["tokens"] + entry["lost_tokens"] > MAX
    assert (entry["trained_tokens"] == whole["trained_tokens"]) == (truncate == "start")


def test_truncated_rows_are_counted_in_the_verdict_of_a_run_without_a_warning(tmp_path):
    """Adapters, checkpointing and merging bring in the parts of transformers and PEFT that warn."""
    data = written(tmp_path / "long.jsonl", [{**row, "text": row["text"] + LONG["text"]} for row in tickets()])
    file = tmp_path / "settings.yaml"
    file.write_text(
        yaml.safe_dump({
            "train": {
                "method": "lora", "lora": {"rank": 4}, "gradient_checkpointing": True, "steps": 2, "max_length": 24, "truncate": "start",
            },
            "compare": {"arms": ["tuned"], "train_rows": 0, "resamples": 20, "folds": 0}, "data": {"general": "none"}, "generate": {"max_new_tokens": 4},
            "split": {"near_duplicate": 1, "test_rows": 4}, "model": {"dtype": "float32"}, "export": {"format": "merged"},
        })
    )  # fmt: skip
    called = in_own_process(
        "run", data, "--input", "text", "--output", "queue", "--config", file, "--out", tmp_path / "run", "--json"
    )
    assert called.code == 0, called.err
    assert "Warning" not in called.err and "deprecated" not in called.err, called.err
    truncated = json.loads(called.out)["data"]["truncated"]
    entries = pq.read_table(tmp_path / "run" / "ledger.parquet").to_pylist()
    assert truncated == sum(entry["lost_tokens"] > 0 for entry in entries) == len(entries)
    assert (tmp_path / "run" / "package" / "model.safetensors").exists(), "export.format"
    assert not (tmp_path / "run" / "package" / "adapter_config.json").exists()


def test_how_the_data_are_read(tmp_path):
    """Encoding, delimiter, columns, system prompt and groups, in one file that is right only with all of them."""
    rows = [{"Frage": f"Größe {n}|{word}?", "Ziel": word, "Kunde": str(n % 5)} for n, word in enumerate("abcdefgh" * 5)]
    path = tmp_path / "fragen.csv"
    with path.open("w", encoding="latin-1", newline="") as stream:
        table = csv.DictWriter(stream, ["Frage", "Ziel", "Kunde"], delimiter="^")
        table.writeheader()
        table.writerows(rows)
    job = prepared(tmp_path / "run", path, {
        "data.encoding": "latin-1", "data.delimiter": "^", "data.input": "Frage", "data.output": ["Ziel"], "data.group": "Kunde",
        "data.system": "Sei kurz.", "split.validation_rows": 0,
    })  # fmt: skip
    held, trained = job.rows("test"), job.rows("train")
    assert len(held) + len(trained) == 40
    assert sorted(texts(job, "train", "test")) == sorted(row["Frage"] for row in rows)
    assert not {row.group for row in held} & {row.group for row in trained}
    for row in trained:
        assert isinstance(row.content, Conversation)
        assert row.content.messages[0] == Message("system", "Sei kurz.")


def test_the_format_that_is_named_is_used(tmp_path):
    """Rows that fit two formats: a prompt with its completion, and plain text."""
    rows = [{"prompt": f"sort {n}", "completion": "tools", "text": f"plain words {n}"} for n in range(30)]
    data = written(tmp_path / "both.jsonl", rows)
    free: dict[str, JsonValue] = {"data.input": None, "data.output": None}
    kinds = set()
    for name in ("prompt_completion", "text"):
        job = prepared(tmp_path / name, data, {**free, "data.format": name})
        kinds.add(type(job.rows("train")[0].content).__name__)
    assert kinds == {"Conversation", "Text"}


def test_own_files_and_shares_decide_the_parts(tmp_path, data):
    own = written(tmp_path / "own.jsonl", [{"text": f"Is item {n} in stock?", "queue": "stock"} for n in range(7)])
    job = prepared(tmp_path / "own", data, {"data.validation": str(own)})
    assert sorted(texts(job, "validation")) == [f"Is item {n} in stock?" for n in range(7)]
    job = prepared(tmp_path / "tested", data, {"data.test": str(own)})
    assert sorted(texts(job, "test")) == [f"Is item {n} in stock?" for n in range(7)]
    held = {}
    for name, most in [("many", 1000), ("few", 3)]:
        shares = {
            "split.test_share": 0.4,
            "split.test_rows": most,
            "split.validation_share": 0.3,
            "split.validation_rows": most,
        }
        job = prepared(tmp_path / name, data, shares)  # type: ignore[arg-type]
        held[name] = (len(job.rows("test")), len(job.rows("validation")))
    assert held["many"][0] > held["few"][0] >= 1
    assert held["many"][1] > held["few"][1] >= 1
    none = prepared(tmp_path / "none", data, {"split.validation_share": 0.0, "split.test_share": 0.0})
    assert len(none.rows("train")) == 30


def test_the_seed_decides_who_is_tested(tmp_path, data):
    tested = [
        texts(prepared(tmp_path / name, data, {"seed": seed}), "test") for name, seed in [("a", 0), ("b", 0), ("c", 1)]
    ]
    assert tested[0] == tested[1] != tested[2]


def test_near_duplicates_share_a_side_from_the_similarity_that_is_set(tmp_path):
    twins = [f"I would like to know where the green bicycle with the number {n} is right now, please" for n in (1, 2)]
    data = written(tmp_path / "near.jsonl", [*tickets(), *({"text": text, "queue": "shipping"} for text in twins)])
    clusters = {}
    for similarity in (0.6, 1.0):
        job = prepared(tmp_path / str(similarity), data, {"split.near_duplicate": similarity})
        clusters[similarity] = [entry["cluster"] for entry in pq.read_table(job.run.assignment).to_pylist()]
    assert clusters[0.6][30] == clusters[0.6][31]
    assert clusters[1.0][30] != clusters[1.0][31]


def test_epochs_type_and_layout_go_into_the_plan_and_the_model(tmp_path, data):
    steps = {}
    for epochs in (1, 3):
        change = {
            "train.epochs": epochs,
            "train.batch_tokens": 200,
            "model.dtype": "bfloat16",
            "train.layout": "padded",
        }
        job = prepared(tmp_path / str(epochs), data, change)  # type: ignore[arg-type]
        plan_stage(job)
        steps[epochs] = job.plan["steps"]
    assert steps[3] == 3 * steps[1] > 3  # type: ignore[operator]
    assert job.policy.head.weight.dtype == torch.bfloat16
    assert job.policy.stock.config._attn_implementation == "sdpa", "packed attention is not set where rows are padded"


def test_swapped_values_are_trained_beside_the_rows_and_change_no_fate(tmp_path):
    names, cities = "Ann Bo Cy Di Ed Fay Gil Hal".split(), "Rome Oslo Bern Riga Kyiv Nice Bari Linz".split()
    told = [
        {"text": f"{verb} {name} in {city}", "who": name, "city": city}
        for verb in ("call", "meet", "see")
        for name, city in zip(names, cities)
    ]
    data = written(tmp_path / "told.jsonl", told)
    fates, stores = [], []
    for swaps in (0, 2):
        change = {"data.output": ["who", "city"], "train.swaps": swaps}
        job = prepared(tmp_path / str(swaps), data, change)  # type: ignore[arg-type]
        fates.append([(entry["fate"], entry["trained_tokens"]) for entry in ledger(job)])
        stores.append(job.rendered("train").store)
        held_out = {*texts(job, "validation", "test")}
    plain, more = stores
    assert fates[0] == fates[1] and len(plain) < len(more) <= 3 * len(plain)
    assert np.array_equal(plain.lengths, more.lengths[: len(plain)])
    made = [job.tokenizer.decode(sequence.tokens_L.tolist()) for sequence in job.rendered("train").made]
    assert made and not [text for text in made if any(f"<|user|>{asked}<|end|>" in text for asked in held_out)]


@pytest.mark.parametrize("compiled", [True, False])
def test_layers_are_compiled_where_the_settings_say_so(tmp_path, data, compiled, monkeypatch):
    """Nothing is compiled yet: torch does it at the first batch."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    change = {"train.compile": compiled, "train.method": "full", "train.layout": "padded"}
    layers = prepared(tmp_path / "run", data, change).policy.stock.get_submodule("model.layers")  # type: ignore[arg-type]
    assert {layer._compiled_call_impl is not None for layer in layers.children()} == {compiled}


def test_the_adapter_is_made_as_the_settings_say(tmp_path, data):
    lora = {"rank": 3, "alpha": 5, "dropout": 0.25, "targets": ["v_proj"]}
    job = prepared(tmp_path / "run", data, {"train.method": "lora", **{f"train.lora.{k}": v for k, v in lora.items()}})  # type: ignore[dict-item]
    model = job.trainable_model()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all("v_proj" in name and 3 in parameter.shape for name, parameter in trained.items())
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.v_proj")
    assert layer.scaling["default"] == 5 / 3  # type: ignore[index]
    assert layer.lora_dropout["default"].p == 0.25  # type: ignore[index]


def test_thinking_is_a_question_to_the_template(tmp_path, data):
    model = shutil.copytree(STARTER, tmp_path / "thinker")
    template = model / "chat_template.jinja"
    switch = "{%- if enable_thinking is defined and not enable_thinking -%}{{- '<|system|>no thinking<|end|>' -}}{%- endif -%}"
    template.write_text(template.read_text().replace("{{- bos_token -}}", "{{- bos_token -}}" + switch))
    lengths = []
    for name, value in [("open", None), ("off", False)]:
        job = prepared(tmp_path / name, data, {"model.name": str(model), "model.enable_thinking": value})
        lengths.append(len(job.rendered("train").sequences[0].tokens_L))
    assert lengths[0] < lengths[1]


def test_the_revision_decides_which_commit_of_the_hub_is_used(tmp_path, monkeypatch):
    """A cache as the hub's client leaves it, and no network."""
    commits = ["a" * 40, "b" * 40]
    for commit in commits:
        shutil.copytree(STARTER, tmp_path / "models--some--model" / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for commit in commits:
        found = find_model(ModelSettings(name="some/model", revision=commit))
        assert (found.revision, found.path.name) == (commit, commit)


def changed_run(tmp_path: Path, **values: JsonValue) -> Path:
    """A copy of a finished run with other settings in its config.yaml."""
    copy = shutil.copytree(finished().path, tmp_path / "run")
    tree = yaml.safe_load((copy / "config.yaml").read_text())
    for key, value in values.items():
        section, _, name = key.partition("__")
        tree[section][name] = value
    (copy / "config.yaml").write_text(yaml.safe_dump(tree))
    return copy


def output(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_margin_and_resamples_decide_the_verdict_from_the_same_answers(tmp_path):
    outcomes = {}
    for margin in (0.0, 1.0):
        verdict = json.loads(output("compare", changed_run(tmp_path / str(margin), compare__margin=margin), "--json"))
        outcomes[margin] = [difference["outcome"] for difference in verdict["differences"]]
    assert "equivalent" in outcomes[1.0] and "equivalent" not in outcomes[0.0]
    ends = {}
    for resamples in (1, 500):  # under twenty clusters nothing is drawn
        settings = Settings.model_validate({"compare": {"resamples": resamples}})
        rows = answer_rows(read_answers(finished().path / "answers" / "classical.parquet")) * 5
        ends[resamples] = arm_summary(rows, accuracy.Grader(), np.arange(len(rows)), settings)["interval"]
    assert ends[1][0] == ends[1][1] and ends[500][0] < ends[500][1]


def test_as_many_training_rows_are_asked_as_the_settings_say():
    run = finished()
    assert json.loads((run.path / "verdict.json").read_text())["train_score"]["rows"] == 4


def test_answers_are_sampled_at_the_temperature_from_the_words_that_top_p_leaves(tmp_path):
    greedy, hot, narrow = (
        output("chat", changed_run(tmp_path / name, **values), "--prompt", "My parcel is wrong, what now?")
        for name, values in [
            ("greedy", {}),
            ("hot", {"generate__temperature": 9.0}),
            ("narrow", {"generate__temperature": 9.0, "generate__top_p": 1e-6}),
        ]
    )
    assert hot != greedy
    assert narrow == greedy
