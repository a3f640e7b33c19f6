"""What makes a training quicker or smaller and changes nothing of it: recomputed layers, compiled ones, batches laid out ahead."""

import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from loops import Killed, killing_at, same
from tiny_training import new_run, policy_of, random_sequences, random_store, resolved, tiny_model, train

from luthier.data.loader import Batch, SequenceStore, as_tree, micro_batches, packed
from luthier.train.loop import Trainer
from luthier.train.objectives.sft import Objective
from luthier.train.policy import Policy

_PATIENCE_SECONDS = 20


class WatchedStore(SequenceStore):
    """Tells when the rows of the second step are asked for."""

    def __init__(self, first_step: frozenset[int]) -> None:
        super().__init__(random_sequences(40))
        self.first_step, self.second_asked_for = first_step, threading.Event()

    def tokens(self, index: int) -> np.ndarray:
        if int(index) not in self.first_step:
            self.second_asked_for.set()
        return super().tokens(index)


class WaitingObjective(Objective):
    """Computes no loss before the second step's rows are asked for."""

    def __init__(self, asked_for: threading.Event) -> None:
        super().__init__()
        self.asked_for, self.came = asked_for, True

    def loss(self, policy: Policy, batch: Batch) -> torch.Tensor:
        self.came = self.asked_for.wait(_PATIENCE_SECONDS) and self.came
        return super().loss(policy, batch)


def test_the_next_step_is_laid_out_while_one_is_computed(tmp_path):
    settings = resolved(steps=2)
    dealt = Trainer(
        policy_of(tiny_model(), settings), Objective(), random_store(40), settings, 0, new_run(tmp_path / "a")
    )
    store = WatchedStore(frozenset(next(dealt._steps_from(0)).tolist()))
    objective = WaitingObjective(store.second_asked_for)
    run = new_run(tmp_path / "b")
    Trainer(policy_of(tiny_model(), settings), objective, store, settings, 0, run).train(
        {"data": "tiny"}, None, lambda _: None
    )
    assert objective.came, "the first step was computed before the second was laid out"


@pytest.mark.parametrize("layout", ["packed", "tree", "cached_tree"])
def test_gradient_checkpointing_keeps_less_for_the_backward_pass(layout):
    def saved_bytes(checkpointing: bool) -> int:
        policy = policy_of(tiny_model().train(), resolved(layout=layout, gradient_checkpointing=checkpointing))
        (batch,) = micro_batches(random_store(6, shared=40), np.arange(6), 10_000, layout)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.nbytes) or tensor, lambda tensor: tensor
        ):
            policy.weighted_nll(batch)
        return sum(sizes)

    assert saved_bytes(True) < saved_bytes(False) / 2


@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.nightly])]
)
@pytest.mark.parametrize("lay", [packed, as_tree])
def test_compiled_layers_keep_the_loss_and_are_compiled_once_for_batches_of_all_shapes(monkeypatch, backend, lay):
    """How often is decided before any code is written, so the backend that writes none tells it in a tenth of the time."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    batches = [lay(random_store(6 + seed, seed, shared=12), range(6 + seed)) for seed in range(8)]
    layout = batches[0].layout
    plain = [policy_of(tiny_model(), resolved(layout=layout)).weighted_nll(batch).item() for batch in batches]
    policy, graphs, losses = policy_of(tiny_model().train(), resolved(compile=True, layout=layout)), [], []
    for batch in batches:
        loss = policy.weighted_nll(batch)
        loss.backward()
        losses.append(loss.item())
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)
        policy.logp(batch)
    assert losses == pytest.approx(plain, rel=1e-4)
    assert 0 < graphs[1] == graphs[-1]


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_compiled_training_that_was_killed_goes_on_to_the_same_bytes(tmp_path, monkeypatch, method):
    """The process that goes on compiles at another batch than the one that began."""
    settings = resolved(method=method, compile=True, layout="tree", steps=6)
    whole, torn = new_run(tmp_path / "whole"), new_run(tmp_path / "torn")
    for process, (run, last) in enumerate(((whole, None), (torn, 3), (torn, None))):
        torch._dynamo.reset()
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / f"compiled-{process}"))
        with nullcontext() if last is None else pytest.raises(Killed):
            train(run.path, settings, watch=(lambda progress: None) if last is None else killing_at(last), shared=20)
    same(whole, torn, step=6)


@pytest.mark.nightly
@pytest.mark.slow
def test_compiled_layers_in_bfloat16_are_as_near_to_float32_as_layers_as_they_are(tmp_path, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    batch = as_tree(random_store(8, shared=12), range(8))

    def gradient(dtype: torch.dtype, compiled: bool) -> torch.Tensor:
        model = tiny_model(dtype=torch.bfloat16).to(dtype).train()
        policy = policy_of(model, resolved(layout="tree", compile=compiled))
        policy.weighted_nll(batch).backward()
        return torch.cat([weight.grad.float().flatten() for weight in model.parameters() if weight.grad is not None])

    truth = gradient(torch.float32, False)
    plain, ours = ((gradient(torch.bfloat16, compiled) - truth).norm().item() for compiled in (False, True))
    assert 0 < ours < 1.1 * plain < 0.1 * truth.norm().item()


@pytest.mark.nightly
@pytest.mark.slow
def test_what_is_compiled_goes_with_its_process_so_that_half_a_library_of_a_killed_one_spoils_no_other(tmp_path):
    code = f"""
import pathlib, torch
from tiny_training import policy_of, random_store, resolved, tiny_model
from luthier.data.loader import packed
policy = policy_of(tiny_model().train(), resolved(compile=True))
policy.weighted_nll(packed(random_store(6), range(6))).backward()
print(len([*pathlib.Path({str(tmp_path)!r}).rglob("*.so")]))
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert int(done.stdout) > 0 and not [*tmp_path.rglob("*.so")]
