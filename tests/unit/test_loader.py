"""Which rows make up each step, and how they lie in memory: nothing lost, nothing doubled, targets where they belong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import random_sequences, random_store

from luthier.core.types import Rendered
from luthier.data.loader import PLACE, SequenceStore, heaviest, micro_batches, packed, padded, steps_of_epoch

lengths_of_rows = st.lists(st.integers(1, 60), min_size=1, max_size=80).map(
    lambda numbers: np.array(numbers, dtype=np.int64)
)


@given(lengths=lengths_of_rows, batch_tokens=st.integers(1, 300), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_an_epoch_holds_every_row_once(lengths, batch_tokens, seed, epoch):
    steps = steps_of_epoch(lengths, batch_tokens, seed, epoch)
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths)))
    assert all(len(step) for step in steps)
    for step in steps[:-1]:
        assert lengths[step].sum() < batch_tokens + lengths.max()
    if len(steps) > 1:
        assert lengths[steps[-1]].sum() >= batch_tokens / 2


def test_the_order_is_a_function_of_seed_and_epoch():
    lengths = np.full(50, 10)
    again = [
        np.concatenate(steps_of_epoch(lengths, 100, seed, epoch)).tolist()
        for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]
    ]
    assert again[0] == again[1]
    assert again[0] != again[2]
    assert again[0] != again[3]


@settings(deadline=None)
@given(seed=st.integers(0, 1000), micro_tokens=st.integers(1, 200), layout=st.sampled_from(["padded", "packed"]))
def test_micro_batches_keep_every_row_and_target_within_the_budget(seed, micro_tokens, layout):
    sequences = random_sequences(12, seed)
    store = SequenceStore(sequences)
    batches = list(micro_batches(store, np.arange(12), micro_tokens, layout))
    assert sorted(row for batch in batches for row in batch.rows) == sorted(store.rows)
    assert sum(batch.num_tokens for batch in batches) == store.num_tokens
    assert sum(len(batch.target_T) for batch in batches) == store.num_trained
    for batch in batches:
        assert batch.tokens_BL.size <= max(micro_tokens, max(batch.places))
        assert (batch.layout == "packed") == (batch.tokens_BL.shape[0] == 1 and layout == "packed")


@settings(deadline=None)
@given(seed=st.integers(0, 1000), micro_tokens=st.integers(1, 200), layout=st.sampled_from(["padded", "packed"]))
def test_the_heaviest_micro_batches_are_found_without_laying_them_out(seed, micro_tokens, layout):
    store = random_store(12, seed=seed)
    first, *others = micro_batches(store, np.arange(12), micro_tokens, layout)
    squares = [sum(place * place for place in batch.places) for batch in (first, *others)]
    most = max(batch.num_positions for batch in (first, *others))
    behind = max((batch.num_positions for batch in others), default=0)
    assert heaviest(store.lengths, micro_tokens, layout, 10**6) == (most, max(squares), behind)
    assert heaviest(store.lengths, micro_tokens, layout, 0) == (most, 0, behind)


@pytest.mark.parametrize("lay", [padded, packed])
def test_every_target_is_predicted_by_the_token_before_it(lay):
    store = random_store(6)
    batch = lay(store, [4, 1, 5])
    flat, position = batch.tokens_BL.reshape(-1), batch.position_BL.reshape(-1)
    assert (flat[batch.index_T + 1] == batch.target_T).all()
    assert (position[batch.index_T] + 1 == position[batch.index_T + 1]).all()
    wanted = np.concatenate([store.tokens(index)[np.flatnonzero(store.weights(index))] for index in (4, 1, 5)])
    assert (batch.target_T == wanted).all()
    assert (batch.weight_T == 1).all()
    assert batch.num_tokens == sum(len(store.tokens(index)) for index in (4, 1, 5))


def test_padded_pads_on_the_right():
    batch = padded(random_store(6), range(6))
    assert batch.places == (max(batch.lengths),) * 6
    for row, length in enumerate(batch.lengths):
        assert (batch.tokens_BL[row, length:] == 0).all()
        assert (batch.position_BL[row, :length] == np.arange(length)).all()


def test_packed_gives_each_row_a_place_of_few_sizes_and_pads_it_on_the_right():
    store = random_store(40)
    batch = packed(store, range(40))
    assert batch.tokens_BL.shape == (1, sum(batch.places))
    start = 0
    for index, (length, place) in enumerate(zip(batch.lengths, batch.places, strict=True)):
        assert length <= place < length + PLACE and place % PLACE == 0
        assert (batch.tokens_BL[0, start : start + length] == store.tokens(index)).all()
        assert (batch.position_BL[0, start : start + length] == np.arange(length)).all()
        assert not batch.tokens_BL[0, start + length : start + place].any()
        assert not batch.position_BL[0, start + length : start + place].any()
        start += place


def test_fractional_weights_travel():
    rendered = Rendered("r", np.array([1, 2, 3], dtype=np.int32), np.array([0, 0.25, 0.5], dtype=np.float32))
    assert padded(SequenceStore([rendered]), [0]).weight_T.tolist() == [0.25, 0.5]


def test_longest_answer_is_the_longest_unbroken_run():
    weights = np.array([0, 1, 1, 0, 1, 1, 1, 0, 1], dtype=np.float32)
    assert SequenceStore([Rendered("r", np.arange(9, dtype=np.int32), weights)]).longest_answer() == 3


def test_the_digest_changes_with_any_token_weight_or_border():
    def digest(tokens: list[list[int]], weight: float = 1) -> bytes:
        rows = [
            Rendered("r", np.array(row, dtype=np.int32), np.full(len(row), weight, dtype=np.float32)) for row in tokens
        ]
        return SequenceStore(rows).digest()

    digests = [digest([[1, 2], [3]]), digest([[1], [2, 3]]), digest([[1, 2], [4]]), digest([[1, 2], [3]], 0.5)]
    assert len(set(digests)) == 4
    assert digest([[1, 2], [3]]) == digests[0]


def test_an_empty_store_is_empty():
    store = SequenceStore([])
    assert (len(store), store.num_tokens, store.num_trained, store.longest_answer()) == (0, 0, 0, 0)
