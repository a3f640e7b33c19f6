"""How rows lie is chosen by what the model allows and the data saves, said aloud, and refused where it is not exact."""

import json
from pathlib import Path

import pytest
from command import STARTER, needs_starter
from small_run import rows as tickets
from tiny_families import tiny
from transformers import AutoTokenizer

from luthier.config.load import load, with_values
from luthier.core.errors import SettingsError
from luthier.core.journal import entries
from luthier.core.rundir import create
from luthier.core.types import JsonValue
from luthier.kernels import native
from luthier.models.sizes import Memory, kv_bytes, training_memory
from luthier.recipes.fitting import Ground, Weigher, shape
from luthier.recipes.job import Job
from luthier.recipes.layout import heaviest_tree
from luthier.recipes.pace import first_epoch
from luthier.recipes.plan import plan_stage
from luthier.recipes.prepare import read_stage, split_stage
from luthier.recipes.train import train_stage
from luthier.recipes.voice import Voice

pytestmark = needs_starter
PROMPT = "You sort tickets of a shop into queues. " * 6


def planned(folder: Path, prompt: str, **settings: JsonValue) -> Job:
    """A run of the tickets behind a system prompt, up to its plan."""
    folder.mkdir(exist_ok=True)
    data = folder / "rows.jsonl"
    system = [{"role": "system", "content": prompt}] if prompt else []
    chats = [
        {"messages": [*system, {"role": "user", "content": r["text"]}, {"role": "assistant", "content": r["queue"]}]}
        for r in tickets()
    ]
    data.write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
    named = {
        "data.path": str(data), "split.near_duplicate": 1, "split.test_rows": 6, "model.dtype": "float32", "threads": 1,
        "train.steps": 1, **{key if "." in key else f"train.{key}": value for key, value in settings.items()},
    }  # fmt: skip
    job = Job(create(folder / "run", "layout"), load([], [], named), Voice(quiet=True))  # type: ignore[arg-type]
    read_stage(job, None)
    split_stage(job)
    plan_stage(job)
    return job


def said(job: Job) -> str:
    return job.run.log.read_text()


def test_a_long_prompt_of_all_rows_is_computed_once(tmp_path):
    job = planned(tmp_path, PROMPT)
    assert job.settings.train.layout == "tree"
    assert "computed once for all" in said(job)
    assert job.plan["processed_per_token"] < 0.7  # type: ignore[operator]
    assert job.plan["head_max_difference"] <= job.plan["head_bound"]  # type: ignore[operator]
    train_stage(job)
    (step,) = entries(job.run.metrics)
    assert step["processed"] < 0.7 * step["tokens"]  # type: ignore[operator]


def test_rows_that_share_little_stay_packed(tmp_path):
    job = planned(tmp_path, "")
    assert job.settings.train.layout == "packed"
    assert job.plan["processed_per_token"] >= 1  # type: ignore[operator]


def test_where_sharing_is_off_the_reason_is_said(tmp_path):
    job = planned(tmp_path, PROMPT, method="lora", **{"train.lora.dropout": 0.1})
    assert job.settings.train.layout == "packed"
    assert "train.lora.dropout 0.1" in said(job)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"layout": "tree", "method": "lora", "train.lora.dropout": 0.1}, "from row to row"),
        ({"layout": "cached_tree", "compile": True}, "use tree"),
    ],
)
def test_a_tree_that_is_not_exact_is_refused(tmp_path, settings, reason):
    with pytest.raises(SettingsError, match=reason):
        planned(tmp_path, PROMPT, **settings)


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory) -> str:
    """A folder with a model that has a convolution below its attention, and the starter's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "lfm2"
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    tokenizer.save_pretrained(folder)
    tiny("lfm2", vocab_size=len(tokenizer), max_position_embeddings=1024).save_pretrained(folder)
    return str(folder)


def test_rows_of_a_model_that_would_carry_state_across_them_are_never_packed(tmp_path, recurrent):
    with pytest.raises(SettingsError, match="leak state across packed rows; use padded"):
        planned(tmp_path / "asked", PROMPT, layout="packed", **{"model.name": recurrent})
    assert planned(tmp_path / "open", "", **{"model.name": recurrent}).settings.train.layout == "padded"


def test_a_flattened_tree_of_a_model_whose_layers_hand_on_more_than_attention_is_refused(tmp_path, recurrent):
    with pytest.raises(SettingsError, match="not proven along a flattened tree; use cached_tree"):
        planned(tmp_path, PROMPT, layout="tree", **{"model.name": recurrent})


def test_beside_a_cache_layers_are_computed_again_and_what_the_cache_keeps_is_weighed(tmp_path, recurrent):
    job = planned(tmp_path, PROMPT, gradient_checkpointing=True, **{"model.name": recurrent})
    assert job.settings.train.layout == "cached_tree"
    train_stage(job)
    (step,) = entries(job.run.metrics)
    assert step["processed"] < 0.7 * step["tokens"]  # type: ignore[operator]
    store, sizes, ground = job.training_store, shape(job), Ground(True, 0, "float32")
    weigher = Weigher(job, store)
    again, kept = (
        weigher.memory(with_values(job.settings, {"train.gradient_checkpointing": on}), ground).activations
        for on in (True, False)
    )
    most = heaviest_tree(store, first_epoch(job, store)[:1], job.settings.train.micro_tokens or 0, "cached_tree")
    assert most.cached > most.positions
    bare = training_memory(sizes, weigher.num_trained(job.settings), "float32", most.positions, checkpointing=True)
    assert again == bare.activations + kv_bytes(sizes, "float32", most.cached) < kept


def test_what_is_compiled_is_weighed_with_less(tmp_path, monkeypatch):
    job = planned(tmp_path, PROMPT)

    def weighed(*, on_cpu: bool = True, **changes: object) -> Memory:
        settings = with_values(job.settings, {f"train.{name}": value for name, value in changes.items()})
        return Weigher(job, job.training_store).memory(settings, Ground(on_cpu, 0, "bfloat16"))

    def activations(**changes: bool) -> int:
        return weighed(**changes).activations

    as_written, again = activations(compile=True), activations(gradient_checkpointing=True)
    if native.library() is not None:
        assert activations() < 0.8 * as_written
        assert as_written < activations(on_cpu=False)  # there attention may keep scores
        assert weighed().rest < weighed(compile=True).rest  # what the heap keeps is in proportion
    monkeypatch.setattr(native, "_found", lambda: (None, "none is wanted"))
    assert activations() == activations(compile=True) == activations(on_cpu=False) >= as_written
    assert activations(gradient_checkpointing=True) >= again


def test_a_model_that_caps_its_scores_is_planned_and_trained_as_a_tree(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    tokenizer.save_pretrained(tmp_path / "gemma2")
    tiny("gemma2", vocab_size=len(tokenizer), max_position_embeddings=1024).save_pretrained(tmp_path / "gemma2")
    job = planned(tmp_path, PROMPT, **{"model.name": str(tmp_path / "gemma2")})
    assert job.settings.train.layout == "cached_tree"
    assert job.plan["head_max_difference"] <= job.plan["head_bound"]  # type: ignore[operator]
    train_stage(job)
    assert len(list(entries(job.run.metrics))) == 1
