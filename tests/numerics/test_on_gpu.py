"""Training and answering on a GPU against the same on the CPU and against stock attention; skipped without one.

Kernels there add up in another order, some of them (backward passes with atomic additions) in an order that changes
from run to run, so equal means within rounding, also for a resumed training.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_tree_families import as_trees, assert_same, one_by_one, rows_of_a_trie
from tiny_families import FAMILIES, tiny
from tiny_training import new_run, policy_of, random_store, resolved, tiny_model

from luthier.config.settings import TrainSettings
from luthier.core.journal import entries
from luthier.core.types import Prompt
from luthier.data.loader import SequenceStore, micro_batches
from luthier.generate.engine import Engine
from luthier.models.adapters import train_all
from luthier.train.loop import Progress, Trainer
from luthier.train.objectives.sft import Objective
from luthier.train.policy import Policy
from luthier.train.sharing import PROVEN, sharing

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
WIDE = {"head_dim": 16}  # FlexAttention's kernels take no narrower heads


class Interrupted(Exception):
    """The training was ended from outside."""


def trained(
    path: Path,
    store: SequenceStore,
    settings: TrainSettings,
    *,
    device: str,
    dtype: torch.dtype = torch.float32,
    stop_after: int | None = None,
) -> list[float]:
    """Train a tiny model in the folder, going on from what lies there, and return the loss of every step."""

    def watch(progress: Progress) -> None:
        if progress.step == stop_after:
            raise Interrupted

    run = new_run(path)
    policy = policy_of(tiny_model(dtype=dtype).to(device), settings)
    Trainer(policy, Objective(), store, settings, 0, run).train({"data": "tiny"}, None, watch)
    return [float.fromhex(str(entry["loss"])) for entry in entries(run.metrics)]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_tree_has_the_gradients_of_its_rows(family):
    layout = PROVEN[family.partition(",")[0]]
    model = tiny(family, **(WIDE if layout == "tree" else {})).cuda()
    assert layout in sharing(model.config).layouts
    for seed in range(2):
        store = rows_of_a_trie(seed)
        truth, stock = one_by_one(model, store)
        loss, ours = as_trees(Policy(train_all(model)), store, layout)
        assert loss == pytest.approx(truth, rel=1e-4)
        assert_same(ours, stock, bound=3e-4)


@pytest.mark.parametrize(("layout", "shared"), [("padded", 0), ("packed", 0), ("tree", 16)])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_a_training_has_the_losses_of_the_cpu(tmp_path, layout, shared, method, optimizer):
    if optimizer == "adamw8bit" and (layout, method) != ("packed", "full"):
        pytest.skip("one layout is enough for the averages")
    store = random_store(40, shared=shared)
    settings = resolved(layout=layout, method=method, optimizer=optimizer)
    losses = {device: trained(tmp_path / device, store, settings, device=device) for device in ("cpu", "cuda")}
    bound = (
        1e-4 if optimizer == "adamw" else 3e-2
    )  # averages in bytes are rounded by chance, counted by another generator there
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=bound)
    assert len(set(losses["cuda"])) == settings.steps


@pytest.mark.parametrize("compiled", [False, True])
def test_bfloat16_rows_train_alike_in_every_layout(tmp_path, compiled):
    store = random_store(60)
    found = {}
    for layout in ("padded", "packed", "tree"):
        settings = resolved(layout=layout, compile=compiled and layout != "padded")
        found[layout] = trained(tmp_path / layout, store, settings, device="cuda", dtype=torch.bfloat16)
    for layout in ("packed", "tree"):
        np.testing.assert_allclose(found[layout], found["padded"], rtol=2e-2)


def test_a_stopped_training_goes_on_within_rounding(tmp_path):
    store, settings = random_store(40), resolved()
    whole = trained(tmp_path / "whole", store, settings, device="cuda")
    with pytest.raises(Interrupted):
        trained(tmp_path / "parts", store, settings, device="cuda", stop_after=5)
    parts = trained(tmp_path / "parts", store, settings, device="cuda")
    np.testing.assert_allclose(parts, whole, rtol=1e-4)


def test_the_proof_passes_on_packed_rows_and_on_trees():
    for layout, dtype in (("packed", torch.float32), ("packed", torch.bfloat16), ("tree", torch.bfloat16)):
        store = random_store(6, shared=16)
        policy = policy_of(tiny_model(dtype=dtype).cuda(), resolved(layout=layout))
        (batch,) = micro_batches(store, np.arange(6), 10_000, layout)
        found = policy.prove(batch)
        assert 0 < found["head_max_difference"] < found["head_bound"]


def test_greedy_answers_are_those_of_the_cpu():
    rng = np.random.default_rng(0)
    prompts = [Prompt(f"p{n}", tuple(rng.integers(3, 500, rng.integers(4, 60)).tolist())) for n in range(24)]
    answers = {}
    for device in ("cpu", "cuda"):
        engine = Engine(tiny_model().eval().to(device), [1], 0, unrender=str, max_new_tokens=24)
        answers[device] = [completion.tokens for completion in engine(prompts)]
    assert answers["cuda"] == answers["cpu"]
