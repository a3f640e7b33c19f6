"""The n-gram yardstick is a probability model and agrees with the formulas worked out word by word."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.starter.kneser_ney import KneserNey

VOCAB = 6


def _sequences(seed: int, count: int = 40) -> list[np.ndarray]:
    """Sequences of a Markov chain that begin with token 0, which occurs nowhere else."""
    rng = np.random.default_rng(seed)
    moves = rng.dirichlet(np.full(VOCAB - 1, 0.5), size=VOCAB)
    out = []
    for _ in range(count):
        tokens = [0]
        for _ in range(int(rng.integers(1, 15))):
            tokens.append(1 + int(rng.choice(VOCAB - 1, p=moves[tokens[-1]])))
        out.append(np.array(tokens, dtype=np.int32))
    return out


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), order=st.integers(1, 5), context=st.lists(st.integers(0, VOCAB - 1), max_size=6))
def test_probabilities_of_every_next_token_sum_to_one(seed: int, order: int, context: list[int]) -> None:
    model = KneserNey(_sequences(seed), VOCAB, order)
    total = sum(model.probabilities(np.array([0, *context, token]))[-1] for token in range(VOCAB))
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_agrees_with_the_recursive_definition(order: int) -> None:
    sequences = _sequences(7)
    model = KneserNey(sequences, VOCAB, order)
    text = np.array([0, 3, 1, 4, 1, 5, 2, 2, 3])
    expected = [_by_definition(sequences, order, tuple(text[:at]), int(text[at])) for at in range(1, len(text))]
    np.testing.assert_allclose(model.probabilities(text), expected, rtol=1e-12)


def test_a_higher_order_codes_a_markov_chain_in_fewer_bits() -> None:
    train, unseen = _sequences(3, 2000)[:1900], _sequences(3, 2000)[1900:]
    bits = [sum(KneserNey(train, VOCAB, order).bits(tokens) for tokens in unseen) for order in (1, 2)]
    assert bits[1] < 0.9 * bits[0]


def _by_definition(sequences: list[np.ndarray], order: int, history: tuple[int, ...], token: int) -> float:
    counts = [_counts(sequences, size, order) for size in range(1, order + 1)]
    discounts = [_discounts(table) for table in counts]

    def probability(size: int) -> float:
        if size == 0:
            return 1 / VOCAB
        lower = probability(size - 1)
        context = tuple(int(t) for t in history[len(history) - size + 1 :])
        if len(history) < size - 1:
            return lower
        table = {gram[-1]: number for gram, number in counts[size - 1].items() if gram[:-1] == context}
        total = sum(table.values())
        if not total:
            return lower
        kept_back = sum(discounts[size - 1][min(number, 3)] for number in table.values())
        number = table.get(token, 0)
        return (max(number - discounts[size - 1][min(number, 3)], 0) + kept_back * lower) / total

    return probability(order)


def _counts(sequences: list[np.ndarray], size: int, order: int) -> Counter[tuple[int, ...]]:
    grams: Counter[tuple[int, ...]] = Counter()
    before: dict[tuple[int, ...], set[int]] = defaultdict(set)
    starts: Counter[tuple[int, ...]] = Counter()
    for sequence in sequences:
        tokens = [int(token) for token in sequence]
        for at in range(len(tokens) - size + 1):
            gram = tuple(tokens[at : at + size])
            grams[gram] += 1
            if at:
                before[gram].add(tokens[at - 1])
            elif size > 1:
                starts[gram] += 1
    if size == order:
        return grams
    return Counter({gram: len(before[gram]) + starts[gram] for gram in grams})


def _discounts(counts: Counter[tuple[int, ...]]) -> list[float]:
    n = [sum(number == times for number in counts.values()) for times in range(5)]
    if not (n[1] and n[2] and n[3]):
        return [0.0, 0.5, 0.75, 0.75]
    y = n[1] / (n[1] + 2 * n[2])
    raw = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
    return [0.0, *(min(max(value, 0.0), times) for times, value in enumerate(raw, start=1))]
