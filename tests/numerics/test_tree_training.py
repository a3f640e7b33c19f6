"""Training along a tree where it may go wrong: long rows, windows, adapters, checkpointing, and trees that are really broken."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree_families import as_trees, assert_same, one_by_one, rows_of_a_trie
from tiny_families import tiny
from tiny_training import live_lora, policy_of, random_store, resolved, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

import luthier.starter
from luthier.core.errors import ProofFailed
from luthier.core.types import Rendered, Segment
from luthier.data.loader import TREES, Batch, SequenceStore, as_tree, micro_batches
from luthier.kernels import attention, reference, tree_attention
from luthier.models.adapters import train_all
from luthier.train.policy import Policy
from luthier.train.sharing import sharing

STARTER = Path(luthier.starter.__file__).parent / "model"
needs_starter = pytest.mark.skipif(
    not (STARTER / "model.safetensors").exists(), reason="the starter's weights are not there"
)
# Deeper than one fork, a segment in two pieces, more keys than are kept, siblings of equal places, a second root.
LONG = [
    Segment(0, 610, 616, 0, -1), Segment(616, 5, 8, 610, 0), Segment(624, 8, 8, 610, 0), Segment(632, 30, 32, 610, 0),
    Segment(664, 3, 8, 640, 3), Segment(672, 7, 8, 640, 3), Segment(680, 9, 16, 0, -1),
]  # fmt: skip


def along(kernel: Callable[..., torch.Tensor], tree: object, num: int, window: int | None) -> list[torch.Tensor]:
    """Output and gradients of one attention over random inputs, four query heads to two key heads."""
    rng = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(heads, num, 8, generator=rng).requires_grad_() for heads in (4, 2, 2))
    out = kernel(query, key, value, tree, 0.6, window)
    (out * torch.randn(out.shape, generator=rng)).sum().backward()
    return [out.detach(), query.grad, key.grad, value.grad]  # type: ignore[list-item]


def assert_equals_reference(segments: list[Segment], window: int | None) -> None:
    num = segments[-1].start + segments[-1].place
    ours = along(tree_attention.tree_attention, tree_attention.blocks(segments), num, window)
    truth = along(reference.tree_attention, segments, num, window)
    for one, other in zip(ours, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("window", [None, 1, 7, 40, 600])
def test_long_segments_deep_forks_and_windows_equal_one_big_mask(window):
    assert any(not block.kept for block in tree_attention.blocks(LONG))
    assert sum(block.start < LONG[0].place for block in tree_attention.blocks(LONG)) == 2
    assert_equals_reference(LONG, window)


def leaves(*places: int) -> list[Segment]:
    """A root of 153 tokens with leaves of these places, each with all but three of its positions taken."""
    found, start = [Segment(0, 153, 160, 0, -1)], 160
    for place in places:
        found.append(Segment(start, place - 3, place, 153, 0))
        start += place
    return found


@pytest.mark.parametrize("window", [None, 30])
def test_siblings_of_like_places_are_one_block_and_the_long_ones_another(window):
    segments = leaves(88, 88, 96, 96, 200)
    root, alike, alone = tree_attention.blocks(segments)
    assert (root.number, alike.number, alone.number) == (1, 4, 1) and alike.runs == ((2, 88), (2, 96))
    own = sum(one.place * (153 + one.place) for one in segments[1:5])
    assert own < alike.num_scores <= 1.1 * own
    assert_equals_reference(segments, window)


def test_masks_that_answers_have_left_behind_serve_training_too():
    """They are kept between calls; made under inference_mode they must not hinder gradients."""
    segments = leaves(88, 88, 96)
    with torch.inference_mode():
        inputs = [torch.randn(heads, 432, 8) for heads in (4, 2, 2)]
        tree_attention.tree_attention(*inputs, tree_attention.blocks(segments), 0.6)
    assert_equals_reference(segments, None)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), window=st.sampled_from([None, 3, 20]))
def test_attention_along_any_tree_equals_one_big_mask(seed, window):
    store = rows_of_a_trie(seed)
    tree = as_tree(store, range(len(store))).tree
    assert tree is not None
    assert_equals_reference(list(tree.segments), window)


@pytest.mark.parametrize("layout", TREES)
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("micro_tokens", [200, 100_000])
def test_adapters_and_accumulation_keep_the_gradients(layout, method, micro_tokens):
    store = random_store(12, shared=40)
    policy = policy_of(tiny_model(), resolved(method=method, layout=layout))
    live_lora(policy.model)
    loss, ours = as_trees(policy, store, layout, micro_tokens)
    assert len(list(micro_batches(store, np.arange(12), micro_tokens, layout))) > 1 or micro_tokens > 1000
    truth, stock = one_by_one(policy.stock, store)
    assert loss == pytest.approx(truth, rel=1e-5)
    named = {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}
    assert len(stock) == len(named)
    assert_same(ours, named)


def test_checkpointing_keeps_the_gradients_along_a_tree():
    store = random_store(8, shared=40)
    policies = [policy_of(tiny_model().train(), resolved(layout="tree", gradient_checkpointing=on)) for on in (0, 1)]
    (_, plain), (_, again) = (as_trees(policy, store, "tree") for policy in policies)
    assert_same(again, plain)


def a_wrong(batch: Batch, wrong: Callable[[tuple[Segment, ...]], list[Segment]]) -> Batch:
    """The same batch with other segments: what attention and the cache follow, not where targets lie."""
    assert batch.tree is not None
    return replace(batch, tree=replace(batch.tree, segments=tuple(wrong(batch.tree.segments))))


def orphan(segments: tuple[Segment, ...]) -> list[Segment]:
    """The last branch sees nothing of what it shares."""
    return [*segments[:-1], segments[-1]._replace(parent=-1, depth=0)]


def short_sighted(segments: tuple[Segment, ...]) -> list[Segment]:
    """One token of what is shared is seen by nobody behind it."""
    root = segments[0]._replace(length=segments[0].length - 1)
    return [root, *(segment._replace(depth=root.length) for segment in segments[1:])]


def adopted(segments: tuple[Segment, ...]) -> list[Segment]:
    """The last branch goes on from a sibling instead of its parent."""
    sibling = segments[-2]
    number = len(segments) - 2
    return [*segments[:-1], segments[-1]._replace(parent=number, depth=sibling.depth + sibling.length)]


@pytest.mark.parametrize("layout", TREES)
@pytest.mark.parametrize("wrong", [orphan, short_sighted, adopted])
def test_a_broken_tree_breaks_the_gradients_and_the_proof(layout, wrong):
    store = random_store(4, shared=40)
    batch = as_tree(store, range(4), layout)
    model = tiny_model()
    truth, stock = one_by_one(model, store)
    policy = Policy(train_all(model))
    if layout == "tree":
        model.set_attn_implementation(attention.register())
    for one, right in ((batch, True), (a_wrong(batch, wrong), False)):
        model.zero_grad(set_to_none=True)
        loss = policy.weighted_nll(one)
        loss.backward()
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        if right:
            assert_same(found, stock)
            continue
        assert loss.item() != pytest.approx(truth, rel=1e-4)
        with pytest.raises(AssertionError):
            assert_same(found, stock)
    assert policy.prove(batch)["head_max_difference"] <= 1e-4
    states = policy._states
    policy._states = lambda some: states(a_wrong(some, wrong) if some.tree else some)
    with pytest.raises(ProofFailed):
        policy.prove(batch)


@needs_starter
def test_rounding_passes_the_proof_in_half_precision_and_a_token_that_nobody_sees_does_not():
    """The starter's log-probabilities in bfloat16 differ by up to half a nat where their mean differs by 0.03."""
    model = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.bfloat16)
    policy = policy_of(model, resolved(layout="tree"))
    words = AutoTokenizer.from_pretrained(STARTER)
    prompt = "You sort what people write to a shop into queues, and copy the number of the order. " * 6
    answers = ["order 48213, parcel is late", "order 77120, wrong colour sent", "order 10944, money back please"]
    store = SequenceStore([_whole(words.encode(f"{prompt} Said: {text}. JSON: {{{text}}}")) for text in answers])
    batch = as_tree(store, range(3))
    assert policy.prove(batch)["head_mean_difference"] < 1e-2
    states = policy._states
    for wrong in (orphan, adopted):
        policy._states = lambda some, wrong=wrong: states(a_wrong(some, wrong) if some.tree else some)
        with pytest.raises(ProofFailed, match="in the mean"):
            policy.prove(batch)


def _whole(tokens: list[int]) -> Rendered:
    weights = np.ones(len(tokens), dtype=np.float32)
    weights[0] = 0
    return Rendered(str(tokens[-5:]), np.array(tokens, dtype=np.int32), weights)


@pytest.mark.parametrize("layout", TREES)
def test_a_cut_gradient_into_what_is_shared_is_noticed(layout):
    """Shared tokens whose keys hand nothing back would still give the right loss."""
    store = random_store(6, shared=40)
    model = tiny_model()
    _, stock = one_by_one(model, store)
    policy = Policy(train_all(model))
    batch = as_tree(store, range(6), layout)
    key = model.model.layers[0].self_attn.k_proj
    key.register_forward_hook(
        lambda module, inputs, out: torch.cat([out[:, :20].detach(), out[:, 20:]], 1) if out.shape[1] > 39 else out
    )
    if layout == "tree":
        model.set_attn_implementation(attention.register())
    policy.model.zero_grad(set_to_none=True)
    policy.weighted_nll(batch).backward()
    with pytest.raises(AssertionError):
        assert_same({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, stock)


def test_sharing_is_refused_by_name_and_reason():
    assert sharing(LlamaConfig()).layouts == ("tree", "cached_tree")
    assert "attention_dropout 0.1" in sharing(LlamaConfig(attention_dropout=0.1)).reason
    assert sharing(LlamaConfig(), compiled=True).layouts == ("tree",)
    assert "train.compile" in sharing(tiny("lfm2").config, compiled=True).reason
    assert "train.lora.dropout" in sharing(LlamaConfig(), lora_dropout=0.1).reason
    strange = LlamaConfig(layer_types=["full_attention", "chunked_attention"], num_hidden_layers=2)
    assert "chunked_attention" in sharing(strange).reason
    both_ways = tiny("gemma3_text", use_bidirectional_attention=True).config
    assert "see those behind them" in sharing(both_ways).reason
    unknown = LlamaConfig()
    unknown.model_type = "gpt2"
    assert sharing(unknown).layouts == () and "gpt2 is not among" in sharing(unknown).reason
