"""Rows that share prefixes, trained as a tree: the gradients of every weight are those of the rows one by one.

The oracle is always the stock model with eager attention, without a cache, on one row at a time.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_families import FAMILIES, VOCAB, tiny, tiny_seeing
from transformers import PreTrainedModel

from luthier.core.types import Rendered
from luthier.data.loader import Layout, SequenceStore, as_tree, micro_batches
from luthier.kernels import attention
from luthier.models.adapters import train_all
from luthier.train.policy import Policy, mode, packable
from luthier.train.sharing import CALLED, PROVEN, sharing

Gradients = dict[str, torch.Tensor]


def rows_of_a_trie(seed: int, num_rows: int = 7, vocab_size: int = VOCAB) -> SequenceStore:
    """Rows that go on from random places of rows before them, some of them doubled; any token may be trained."""
    rng = np.random.default_rng(seed)
    rows: list[np.ndarray] = [rng.integers(3, vocab_size, 90)]
    while len(rows) < num_rows:
        parent = rows[rng.integers(len(rows))]
        kept = parent[: rng.integers(0, len(parent) + 1)]
        rows.append(np.concatenate([kept, rng.integers(3, vocab_size, rng.integers(0 if len(kept) > 1 else 2, 24))]))
    weights = [np.where(rng.random(len(row)) < 0.6, rng.integers(1, 4, len(row)) / 2, 0) for row in rows]
    for weight in weights:
        weight[0] = 0
    return SequenceStore(
        [
            Rendered(f"row-{number}", row.astype(np.int32), weight.astype(np.float32))
            for number, (row, weight) in enumerate(zip(rows, weights, strict=True))
        ]
    )


def one_by_one(model: PreTrainedModel, store: SequenceStore) -> tuple[float, Gradients]:
    """The stock model's loss and gradients, a row at a time."""
    model.set_attn_implementation("eager")
    model.zero_grad(set_to_none=True)
    total = 0.0
    for index in range(len(store)):
        tokens = torch.from_numpy(store.tokens(index).astype(np.int64))[None].to(model.device)
        logits = model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
        nll = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none")
        loss = (nll * torch.from_numpy(store.weights(index)[1:]).to(model.device)).sum()
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def gradients(model: torch.nn.Module) -> Gradients:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def as_trees(
    policy: Policy, store: SequenceStore, layout: Layout, micro_tokens: int = 100_000
) -> tuple[float, Gradients]:
    """Luthier's loss and gradients, a tree at a time."""
    if layout in ("tree", "packed"):
        policy.stock.set_attn_implementation(attention.register())
    policy.model.zero_grad(set_to_none=True)
    total = 0.0
    for batch in micro_batches(store, np.arange(len(store)), micro_tokens, layout):
        loss = policy.weighted_nll(batch)
        loss.backward()
        total += loss.item()
    return total, gradients(policy.model)


def assert_same(ours: Gradients, truth: Gradients, bound: float = 1e-4) -> None:
    assert set(ours) == set(truth)
    assert len(truth) > 10
    for name, gradient in truth.items():
        size = torch.linalg.vector_norm(gradient)
        assert torch.linalg.vector_norm(ours[name] - gradient) <= bound * size + 1e-7, name


# Heads of 8 channels attend through plain torch, those of 16 through the compiled functions where there are some.
LAYOUTS = [(family, "cached_tree", 8) for family in FAMILIES] + [
    (family, "tree", channels) for family in FAMILIES if PROVEN[family.partition(",")[0]] == "tree" for channels in (8, 16)
]  # fmt: skip


WINDOWS_IN_ALL_LAYERS = {"mistral", "phi3"}  # their configs name no types of layers


def test_every_family_on_the_list_is_proven_here():
    assert {family.partition(",")[0] for family in FAMILIES} == set(PROVEN) == set(CALLED)


def with_heads_of(channels: int, family: str) -> PreTrainedModel:
    return tiny(family, head_dim=channels, hidden_size=4 * channels)


@pytest.mark.parametrize(("family", "layout", "channels"), sorted(LAYOUTS))
def test_a_tree_has_the_gradients_of_its_rows(family, layout, channels):
    model = with_heads_of(channels, family)
    assert layout in sharing(model.config).layouts
    for seed in range(3):
        store = rows_of_a_trie(seed)
        batch = as_tree(store, range(len(store)), layout)
        assert batch.num_positions < store.num_tokens and batch.num_trained > len(batch.target_T)
        truth, stock = one_by_one(model, store)
        loss, ours = as_trees(Policy(train_all(model)), store, layout)
        assert loss == pytest.approx(truth, rel=1e-5)
        assert_same(ours, stock)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_layers_computed_again_beside_a_cache_have_the_gradients_of_the_rows(family):
    model = tiny(family)
    store = rows_of_a_trie(4)
    _, stock = one_by_one(model, store)
    policy = Policy(train_all(model))
    policy.compute_again("cached_tree")
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")  # as models are loaded
    with mode(model, training=True):
        _, ours = as_trees(policy, store, "cached_tree")
    assert_same(ours, stock)


@pytest.mark.parametrize(("family", "layout", "channels"), sorted(LAYOUTS))
def test_without_the_mask_or_the_repeated_cache_the_gradients_are_wrong(family, layout, channels):
    """The last branch sees nothing of what it shares: no keys of its ancestors, or an empty cache in place of a repeated one."""
    model = with_heads_of(channels, family)
    store = rows_of_a_trie(1)
    _, stock = one_by_one(model, store)
    policy = Policy(train_all(model))
    if layout == "tree":
        policy.stock.set_attn_implementation(attention.register())
    batch = as_tree(store, range(len(store)), layout)
    assert batch.tree is not None
    *before, last = batch.tree.segments
    alone = last._replace(parent=-1, depth=0 if layout == "tree" else last.depth)
    assert last.parent >= 0
    policy.model.zero_grad(set_to_none=True)
    policy.weighted_nll(replace(batch, tree=replace(batch.tree, segments=(*before, alone)))).backward()
    with pytest.raises(AssertionError):
        assert_same(gradients(policy.model), stock)


@pytest.mark.parametrize(("family", "channels"), sorted({(family, channels) for family, _, channels in LAYOUTS}))
def test_packed_rows_have_their_own_gradients_and_where_a_state_would_leak_none_are_packed(family, channels):
    model = with_heads_of(channels, family)
    connected = {"conv", "mamba", "linear_attention", "sliding_attention", "attention"}
    alone = not connected & set(model.config.to_dict().get("layer_types") or ())
    assert packable(model.config) == (alone and family not in WINDOWS_IN_ALL_LAYERS)
    store = rows_of_a_trie(2, num_rows=4)
    truth, stock = one_by_one(model, store)
    if packable(model.config):
        loss, ours = as_trees(Policy(train_all(model)), store, "packed")
        assert loss == pytest.approx(truth, rel=1e-5)
        assert_same(ours, stock)


@pytest.mark.parametrize("layout", ["tree", "cached_tree"])
def test_a_model_that_sees_too_shares_text_as_one_that_only_reads(layout):
    model = train_all(tiny_seeing())
    store = rows_of_a_trie(0, num_rows=4)
    truth, stock = one_by_one(model, store)
    with mode(model, training=True):
        loss, ours = as_trees(Policy(model), store, layout)
    assert loss == pytest.approx(truth, rel=1e-5)
    assert_same(ours, stock)
