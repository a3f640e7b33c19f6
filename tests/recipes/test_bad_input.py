"""What a user can mend is said in one clear message, before the run, with exit code 2 and no traceback."""

import json
import shutil
from pathlib import Path

import pytest
from command import STARTER, luthier, needs_starter, refused
from safetensors.torch import save_file
from torch import ones

from luthier.core.hardware import hardware

ROWS = [{"text": f"please sort the {thing} into drawer {n}", "label": ("tools", "food")[n % 2]} for n, thing in enumerate(
    ["hammer", "apple", "saw", "bread", "drill", "cheese", "pliers", "plum", "wrench", "rice", "chisel", "soup", "file", "bean", "vice", "leek", "plane", "fig", "awl", "date"]
)]  # fmt: skip
TINY = "--set", "train.steps=1", "--set", "compare.arms=[classical]"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return written(tmp_path / "rows.jsonl", ROWS)


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_no_data_named(tmp_path: Path):
    refused(luthier("run", "--out", tmp_path / "out"), "there is no data", "data.path")
    assert not (tmp_path / "out").exists()


def test_no_file(tmp_path: Path):
    refused(luthier("run", tmp_path / "none.jsonl", "--out", tmp_path / "out"), "none.jsonl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "n" * 300, "~nobody-of-this-name/rows.jsonl"])
def test_a_name_that_can_be_no_file(tmp_path: Path, name: str):
    refused(luthier("run", name, "--out", tmp_path / "out"), name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["", "\n\n \n"])
def test_empty_file(tmp_path: Path, content: str):
    (tmp_path / "empty.jsonl").write_text(content)
    refused(luthier("run", tmp_path / "empty.jsonl", "--out", tmp_path / "out"), "empty.jsonl")
    assert not any((tmp_path / "out").iterdir()), "the same --out must be free to be tried again"


def test_no_usable_column_lists_those_that_are_there(tmp_path: Path):
    path = written(tmp_path / "odd.jsonl", [{"alpha": "a", "beta": "b"}] * 5)
    refused(luthier("run", path, "--out", tmp_path / "out"), "alpha, beta", "--input", "--output")


def test_a_wrong_column_gets_the_nearest_name(rows: Path, tmp_path: Path):
    refused(
        luthier("run", rows, "--input", "txt", "--output", "label", "--out", tmp_path / "out"),
        "'txt'",
        "Did you mean 'text'?",
    )


def test_too_many_broken_rows(tmp_path: Path):
    path = tmp_path / "broken.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "{broken\n" * 5)
    refused(luthier("run", path, "--out", tmp_path / "out"), "invalid-json", "broken.jsonl", "data.max_bad_share")


@needs_starter
def test_one_row(tmp_path: Path):
    refused(luthier("run", written(tmp_path / "one.jsonl", ROWS[:1]), *TINY, "--out", tmp_path / "out"), "row")


@needs_starter
def test_all_rows_the_same(tmp_path: Path):
    refused(luthier("run", written(tmp_path / "same.jsonl", ROWS[:1] * 40), *TINY, "--out", tmp_path / "out"), "row")


def test_a_model_that_is_not_there_says_how_to_get_it(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    refused(
        luthier("run", rows, "--model", "nobody/no-such-model", "--out", out),
        "nobody/no-such-model",
        "hf download",
        "starter",
    )
    for name in ("./missing", "../up/and/missing", ""):
        refused(luthier("run", rows, "--model", name, "--out", tmp_path / "b"), f"no folder {name}", "starter")
    assert not (tmp_path / "b").exists()


def test_a_model_that_needs_its_own_code_is_refused(rows: Path, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": {"AutoModelForCausalLM": "x.X"}}))
    save_file({"weight": ones(2)}, model / "model.safetensors")
    refused(luthier("run", rows, "--model", model, "--out", tmp_path / "out"), "auto_map", "never runs")


def test_pickled_weights_are_refused(rows: Path, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    refused(luthier("run", rows, "--model", model, "--out", tmp_path / "out"), "pytorch_model.bin", "safetensors")


def test_a_folder_that_is_no_model(rows: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    refused(luthier("run", rows, "--model", tmp_path / "empty", "--out", tmp_path / "out"), "no config.json")


def test_a_damaged_tokenizer(rows: Path, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer_config.json", "chat_template.jinja"):
        if (STARTER / name).exists():
            shutil.copy(STARTER / name, model)
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (model / "tokenizer.json").write_text("{}")
    save_file({"weight": ones(2)}, model / "model.safetensors")
    refused(luthier("run", rows, "--model", model, "--out", tmp_path / "out"), "tokenizer")


def test_not_enough_memory_is_said_before_training(rows: Path, tmp_path: Path):
    shape = {
        "tokenizer": str(STARTER),
        "hidden_size": 65536,
        "num_hidden_layers": 512,
        "intermediate_size": 262144,
        "num_attention_heads": 64,
    }
    config = tmp_path / "huge.yaml"
    config.write_text(json.dumps({"model": {"init": shape}}))
    called = luthier("run", rows, "--config", config, "--out", tmp_path / "out")
    refused(called, "GiB of memory", "are free", "--set ")
    assert "train:" not in called.err


@needs_starter
def test_not_enough_memory_for_the_batch_names_the_setting(tmp_path: Path):
    """Inner layers so wide that all rows at once do not fit, but one row does."""
    many = [{"text": f"{row['text']} {n}", "label": row["label"]} for row in ROWS for n in range(20)]
    width = hardware().free_memory_bytes // 40_000
    shape = {
        "tokenizer": STARTER,
        "hidden_size": 64,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "num_hidden_layers": 2,
    }
    settings = [f"model.init.{key}={value}" for key, value in {**shape, "intermediate_size": width}.items()]
    settings += [
        "model.dtype=bfloat16",
        "train.micro_tokens=1000000",
        "train.batch_tokens=1000000",
        "split.near_duplicate=1",
    ]
    changes = [word for setting in settings for word in ("--set", setting)]
    path = written(tmp_path / "many.jsonl", many)
    refused(luthier("run", path, *changes, "--out", tmp_path / "out"), "GiB of memory", "train.micro_tokens")


@needs_starter
def test_not_enough_disk_is_said_before_training(rows: Path, tmp_path: Path):
    refused(
        luthier("run", rows, "--set", "train.keep=2000000000", "--out", tmp_path / "out"), "train.keep", "--out", "GiB"
    )


def test_unknown_settings_come_with_the_nearest_name(rows: Path, tmp_path: Path):
    called = luthier("run", rows, "--set", "train.epoch=3", "--set", "compare.granularity=2", "--out", tmp_path / "out")
    refused(called, "train.epoch: there is no such setting. Did you mean 'train.epochs'?", "compare.granularity")
    assert not (tmp_path / "out").exists()


def test_a_settings_file_that_is_not_there_or_not_yaml(rows: Path, tmp_path: Path):
    refused(luthier("run", rows, "--config", tmp_path / "none.yaml"), "none.yaml")
    (tmp_path / "bad.yaml").write_text("train: [unclosed")
    refused(luthier("run", rows, "--config", tmp_path / "bad.yaml"), "bad.yaml")
    (tmp_path / "twice.yaml").write_text("train: {lr: 1e-3, lr: 1e-4}")
    refused(luthier("run", rows, "--config", tmp_path / "twice.yaml"), "'lr' stands twice")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("compare.arms=[clasical, tuned]", ("clasical", "classical")),
        ("compare.grader=accurcy", ("accurcy", "accuracy")),
        ("train.objective=stf", ("stf", "sft")),
        ("check.skip=[duplicate]", ("duplicate", "duplicates")),
        ("data.format=alpacca", ("alpacca", "alpaca")),
    ],
)
def test_wrong_names_of_parts_are_found_before_anything_runs(
    rows: Path, tmp_path: Path, setting: str, words: tuple[str, str]
):
    refused(luthier("run", rows, "--set", setting, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["train.objective=text", "compare.grader=exact"], ("compare.grader", "bits per byte")),
        (["train.decay=0.4"], ("train.decay", "wsd", "cosine")),
        (["generate.top_p=0.9"], ("generate.top_p", "generate.temperature")),
        (["model.dtype=float16"], ("model.dtype", "bfloat16")),
        (["train.betas=[0.9, 1.0]"], ("train.betas.1", "less than 1")),
    ],
)
def test_a_setting_that_would_do_nothing_or_cannot_be_is_refused(
    rows: Path, tmp_path: Path, settings: list[str], words: tuple[str, ...]
):
    refused(
        luthier("run", rows, *[part for one in settings for part in ("--set", one)], "--out", tmp_path / "out"), *words
    )
    assert not (tmp_path / "out").exists()


@needs_starter
def test_settings_of_an_adapter_need_one(rows: Path, tmp_path: Path):
    rank = ("--set", "train.lora.rank=4")
    refused(luthier("run", rows, *TINY, *rank, "--out", tmp_path / "a"), "train.lora", "train.method=lora")
    targets = ("--set", "train.method=lora", "--set", "train.lora.targets=[q_prj]")
    refused(
        luthier("run", rows, *TINY, *targets, "--out", tmp_path / "b"),
        "train.lora.targets",
        "q_prj",
        "down_proj",
        "q_proj",
    )


def test_the_same_file_as_data_and_as_test(rows: Path, tmp_path: Path):
    refused(luthier("run", rows, "--test", rows, "--out", tmp_path / "out"), "rows.jsonl", "--test", "same file")
    link = tmp_path / "link.jsonl"
    link.symlink_to(rows)
    refused(luthier("run", rows, "--validation", link, "--out", tmp_path / "out2"), "same file")


def test_a_test_file_that_repeats_the_data_leaves_no_training_row(rows: Path, tmp_path: Path):
    copy = shutil.copy(rows, tmp_path / "copy.jsonl")
    refused(luthier("run", rows, "--test", copy, "--out", tmp_path / "out"), "training")


def test_an_out_folder_that_is_not_empty(rows: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("keep me")
    refused(luthier("run", rows, "--out", tmp_path / "out"), "not empty", "luthier resume")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]
    refused(luthier("run", rows, "--out", rows), "rows.jsonl")
    refused(luthier("run", rows, "--out", rows / "below"), "cannot be made", "--out")


@pytest.mark.parametrize("command", ["resume", "compare", "chat", "show"])
def test_a_folder_that_is_no_run(command: str, tmp_path: Path):
    refused(luthier(command, tmp_path / "none"), "not a run folder")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("seed: 1\n")
    refused(luthier(command, tmp_path / "half")) if command != "show" else None


def test_a_wrong_arm_for_chat(tmp_path: Path):
    refused(luthier("chat", tmp_path, "--arm", "base"), "zero_shot or tuned")
