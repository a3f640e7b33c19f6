"""Layers are compiled where the user left it open and it clearly pays: a long training on a CPU, after a trial that shows the same gradients.

The trials here trace the layers with torch.compile, but have its backend write no code: what is chosen does not depend on how quick
it is made to be.
"""

from functools import partial

import pytest
import torch
from command import needs_starter
from test_layout import PROMPT, planned, said
from test_plan import forecast

from luthier.config.load import load
from luthier.config.settings import TrainSettings
from luthier.recipes import compiling
from luthier.recipes.compiling import COMPILER_BYTES, choice, refusal
from luthier.recipes.job import Job
from luthier.recipes.plan import plan_stage
from luthier.recipes.voice import Voice

PLAIN = TrainSettings(layout="tree", method="lora", gradient_checkpointing=False)


def why_not(train: TrainSettings = PLAIN, model_type: str = "llama", **more) -> str:
    return refusal(train, model_type, **{"on_cpu": True, "processes": 1, "spare_bytes": COMPILER_BYTES, **more})


@pytest.fixture
def long(monkeypatch, tmp_path):
    """Any training is long enough, and compiled layers are quick enough; `backend` stands for what writes their code."""

    def made(backend) -> None:
        torch._dynamo.reset()
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
        monkeypatch.setattr(compiling, "COMPILING_SECONDS", 0.0)
        monkeypatch.setattr(compiling, "LEAST_SPEED", 0.0)

    monkeypatch.setenv("CXX", "sh")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    yield made
    torch._dynamo.reset()


def test_only_a_training_that_saves_three_times_what_compiling_takes_is_compiled():
    enough = 3 * 50 / 0.06
    short, lengthy = choice(enough - 1, ""), choice(enough + 1, "")
    assert not short.compiled and "pays from about 42 min on" in short.words
    assert lengthy.compiled and "saves about 2 min" in lengthy.words
    assert choice(10 * enough, "there is no compiler") == (False, "layers are not compiled: there is no compiler")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"on_cpu": False}, "GPU"), ({"processes": 2}, "several processes"), ({"model_type": "qwen3"}, "not for qwen3"), ({"spare_bytes": COMPILER_BYTES - 1}, "memory"),
        ({"layout": "cached_tree"}, "cached_tree"), ({"layout": "padded"}, "padded"), ({"gradient_checkpointing": True}, "train.gradient_checkpointing"), ({"dropout": 0.1}, "train.lora.dropout"),
    ],
)  # fmt: skip
def test_layers_stay_as_they_are_where_compiled_ones_are_not_proven(monkeypatch, changes, reason):
    monkeypatch.setenv("CXX", "sh")
    assert why_not() == ""
    fields = {key: changes.pop(key) for key in list(changes) if key in ("layout", "gradient_checkpointing")}
    lora = PLAIN.lora.model_copy(update={"dropout": changes.pop("dropout", 0.0)})
    assert reason in why_not(PLAIN.model_copy(update={**fields, "lora": lora}), **changes)


def test_without_a_compiler_layers_stay_as_they_are(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler on this machine (no-such-compiler)" in why_not()


@needs_starter
def test_a_long_training_is_compiled_after_a_trial_and_the_stored_choice_stays(tmp_path, long, monkeypatch):
    long("eager")
    job = planned(tmp_path, PROMPT, method="lora")
    assert job.settings.train.compile is True and load([job.run.config]).train.compile is True
    assert "for a trial" in said(job) and "layers are compiled" in said(job)
    assert {
        layer._compiled_call_impl is not None for layer in job.policy.stock.get_submodule("model.layers").children()
    } == {True}
    told = forecast(tmp_path / "rows.jsonl", method="lora")["machines"][0]["compiling"]
    assert told["compiled"] is True and told["words"] in said(job).splitlines()[-1]
    monkeypatch.setattr(compiling, "COMPILING_SECONDS", 1e9)  # what would be chosen anew is another thing
    again = Job(job.run, load([job.run.config]), Voice(quiet=True))
    plan_stage(again)
    assert again.settings.train.compile is True


def wrong(graph: torch.fx.GraphModule, given: list[torch.Tensor]):
    """A compiler whose code computes something else."""
    return lambda *inputs: tuple(1.5 * one if isinstance(one, torch.Tensor) else one for one in graph(*inputs))


def broken(graph: torch.fx.GraphModule, given: list[torch.Tensor]):
    raise RuntimeError("Python.h is missing")


@needs_starter
@pytest.mark.parametrize(
    ("backend", "reason"), [(wrong, "their gradients differ by"), (broken, "torch.compile failed")]
)
def test_layers_that_fail_their_trial_are_not_compiled_and_the_training_goes_as_it_would_have(
    tmp_path, long, backend, reason
):
    long(backend)
    job = planned(tmp_path, PROMPT, method="lora")
    assert job.settings.train.compile is False and load([job.run.config]).train.compile is False
    assert reason in said(job)
    assert {layer._compiled_call_impl for layer in job.policy.stock.get_submodule("model.layers").children()} == {None}


@needs_starter
def test_a_short_training_is_not_compiled_nor_tried(tmp_path):
    job = planned(tmp_path, PROMPT, method="lora")
    assert job.settings.train.compile is False
    assert "pays from about 42 min on" in said(job) and "for a trial" not in said(job)
