"""Rows as a token tree: every row can be read back, every weight is there once, and what is shared lies there once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import random_store

from luthier.core.types import Rendered
from luthier.data import tree
from luthier.data.loader import TREES, SequenceStore, as_tree, micro_batches, steps_of_epoch

# Few different tokens, so that rows begin alike, end inside others and are equal often.
tokens_of_a_row = st.lists(st.integers(0, 2), min_size=1, max_size=24)
stores = st.lists(tokens_of_a_row, min_size=1, max_size=12).flatmap(
    lambda rows: st.tuples(
        st.just(rows), st.tuples(*(st.lists(st.integers(0, 3), min_size=len(r), max_size=len(r)) for r in rows))
    )
)


def store_of(rows: list[list[int]], weights: tuple[list[int], ...]) -> SequenceStore:
    return SequenceStore(
        [
            Rendered(f"row-{n}", np.array(row, dtype=np.int32), np.array([0, *weight[1:]], dtype=np.float32))
            for n, (row, weight) in enumerate(zip(rows, weights, strict=True))
        ]
    )


@given(drawn=stores, least_shared=st.integers(1, 9), multiple=st.sampled_from([1, 8]))
def test_a_tree_gives_its_rows_back(drawn, least_shared, multiple):
    arrays = [np.array(row, dtype=np.int32) for row in drawn[0]]
    rows = [arrays[index] for index in tree.in_tree_order(arrays)]
    grown = tree.grow(rows, multiple=multiple, least_shared=least_shared)
    for number, row in enumerate(rows):
        where = grown.places_of_row(number)
        assert (grown.tokens_N[where] == row).all()
        assert (grown.position_N[where] == np.arange(len(row))).all()
    assert len(grown.tokens_N) == sum(segment.place for segment in grown.segments)
    starts = np.cumsum([0, *(segment.place for segment in grown.segments)])[:-1]
    assert [segment.start for segment in grown.segments] == starts.tolist()
    for number, segment in enumerate(grown.segments):
        assert 0 < segment.length <= segment.place < segment.length + multiple and segment.parent < number
        above = grown.segments[segment.parent]
        assert segment.depth == (above.depth + above.length if segment.parent >= 0 else 0)
    bound = int(tree.most_positions(rows, multiple=multiple, least_shared=least_shared).sum())
    assert len(grown.tokens_N) <= bound


@given(drawn=stores)
def test_a_trie_that_parts_at_every_token_holds_each_beginning_once(drawn):
    arrays = [np.array(row, dtype=np.int32) for row in drawn[0]]
    rows = [arrays[index] for index in tree.in_tree_order(arrays)]
    beginnings = {tuple(row[:end]) for row in drawn[0] for end in range(1, len(row) + 1)}
    assert len(tree.grow(rows, multiple=1, least_shared=1).tokens_N) == len(beginnings)


@given(drawn=stores, layout=st.sampled_from(TREES))
def test_every_target_counts_once_a_row(drawn, layout):
    store = store_of(*drawn)
    batch = as_tree(store, range(len(store)), layout)
    assert batch.weight_T.sum() == sum(store.weights(index).sum() for index in range(len(store)))
    assert batch.num_trained == store.num_trained >= len(batch.target_T)
    assert batch.num_tokens == store.num_tokens
    wanted: dict[tuple[int, ...], float] = {}
    for index in range(len(store)):
        tokens, weights = store.tokens(index).tolist(), store.weights(index)
        for end in np.flatnonzero(weights):
            beginning = tuple(tokens[: end + 1])
            wanted[beginning] = wanted.get(beginning, 0) + float(weights[end])
    assert batch.tree is not None
    found: dict[tuple[int, ...], float] = {}
    whole = {}
    for row in range(len(batch.rows)):
        where = batch.tree.places_of_row(row)
        whole |= {int(place): tuple(batch.tree.tokens_N[where[: end + 1]].tolist()) for end, place in enumerate(where)}
    for place, token, weight in zip(batch.index_T, batch.target_T, batch.weight_T, strict=True):
        beginning = (*whole[int(place)], int(token))
        found[beginning] = found.get(beginning, 0) + float(weight)
    assert found == wanted


@given(seed=st.integers(0, 50), micro_tokens=st.integers(1, 400), layout=st.sampled_from(TREES))
def test_trees_keep_every_row_within_the_budget(seed, micro_tokens, layout):
    store = random_store(12, seed, shared=seed)
    batches = list(micro_batches(store, np.arange(12), micro_tokens, layout))
    assert sorted(row for batch in batches for row in batch.rows) == sorted(store.rows)
    for batch in batches:
        assert batch.num_positions <= micro_tokens or len(batch.rows) == 1


def test_rows_of_one_beginning_come_into_one_micro_batch():
    """Where a step's budget holds the rows of one prompt, each prompt is computed once, whatever the order of the rows."""
    store = answers_and_prompts(3, 6)
    order = np.random.default_rng(1).permutation(len(store))
    batches = list(micro_batches(store, order, 240, "tree"))
    assert [set(batch.rows) for batch in batches] == [{row} for row in dict.fromkeys(b.rows[0] for b in batches)]
    assert len(batches) == 3 and sum(batch.num_positions for batch in batches) == 3 * (64 + 6 * 16)


def test_a_shared_beginning_lies_there_once_and_a_short_one_does_not_branch():
    store = random_store(10, shared=40)
    batch = as_tree(store, range(10))
    assert batch.tree is not None
    assert [segment.parent for segment in batch.tree.segments].count(-1) == 1
    assert batch.tree.segments[0].length >= 40
    assert batch.num_positions <= 40 + store.num_tokens - 10 * 40 + 11 * 7
    apart = as_tree(random_store(10, shared=tree.LEAST_SHARED - 1), range(10))
    assert apart.tree is not None and len(apart.tree.segments) == 10


def answers_and_prompts(num_prompts: int, answers: int) -> SequenceStore:
    """Rows of long prompts, each with several answers, behind one system prompt; the answers of a prompt are one row."""
    rng = np.random.default_rng(0)
    prompts = [np.concatenate([np.arange(30), rng.integers(100, 200, 30)]) for _ in range(num_prompts)]
    rows = [
        np.concatenate([prompts[n % num_prompts], rng.integers(200, 300, 12)]) for n in range(num_prompts * answers)
    ]
    return SequenceStore(
        [
            Rendered(f"r{n % num_prompts}", row.astype(np.int32), (row >= 200).astype(np.float32))
            for n, row in enumerate(rows)
        ]
    )


@settings(deadline=None)
@given(seed=st.integers(0, 20), epoch=st.integers(0, 3), answers=st.integers(1, 9))
def test_the_sequences_of_a_row_come_together_and_each_once(seed, epoch, answers):
    store = answers_and_prompts(7, answers)
    order = np.concatenate(steps_of_epoch(store.lengths, 10**9, seed, epoch, store.kin))
    assert sorted(order) == list(range(len(store)))
    assert len(np.flatnonzero(np.diff(store.kin[order]))) == 6
    again = np.concatenate(steps_of_epoch(store.lengths, 10**9, seed, epoch, store.kin))
    assert (order == again).all()


def test_rows_of_one_sequence_keep_the_order_that_they_would_have():
    """Whatever they share: what is learned must not depend on how it is computed."""
    store = random_store(40, shared=40)
    with_kin = steps_of_epoch(store.lengths, 500, 0, 1, store.kin_in("tree"))
    without = steps_of_epoch(store.lengths, 500, 0, 1)
    assert [step.tolist() for step in with_kin] == [step.tolist() for step in without]


def test_two_answers_of_a_question_share_it():
    """The shape of preference pairs and of groups of samples: one prompt, several answers."""
    store = answers_and_prompts(1, 5)
    batch = as_tree(store, range(5))
    assert batch.tree is not None
    assert [segment.length for segment in batch.tree.segments] == [60, 12, 12, 12, 12, 12]
    assert (np.bincount(batch.index_T, minlength=60)[59], batch.num_trained) == (5, 60)
