"""Intervals cover the truth as often as they say, and clusters are never taken apart."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from luthier.core.types import Interval
from luthier.verdict.stats import Measure, Sample, effective_rows, interval, mean, paired, paired_all

SIMULATIONS = 400


def test_the_interval_agrees_with_scipy_where_every_row_is_its_own_cluster() -> None:
    scores = np.random.default_rng(0).random(150)
    ours = interval(scores, np.arange(150), 10_000, 0)
    theirs = bootstrap((scores,), np.mean, n_resamples=10_000, method="BCa", rng=1).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.003)
    assert ours.high == pytest.approx(theirs.high, abs=0.003)


def clustered(rng: np.random.Generator, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw right and wrong answers that are alike within a cluster, with an expected mean of 0.7."""
    sizes = rng.integers(1, 8, clusters)
    of_row = np.repeat(np.arange(clusters), sizes)
    return (rng.random(clusters) < 0.7).astype(float)[of_row], of_row


def test_95_of_100_intervals_hold_the_truth_and_row_wise_ones_do_not() -> None:
    rng = np.random.default_rng(1)
    by_cluster = by_row = 0
    for _ in range(SIMULATIONS):
        scores, clusters = clustered(rng, 120)
        ends = interval(scores, clusters, 400, 0)
        by_cluster += ends.low <= 0.7 <= ends.high
        ends = interval(scores, np.arange(len(scores)), 400, 0)
        by_row += ends.low <= 0.7 <= ends.high
    assert 0.92 <= by_cluster / SIMULATIONS <= 0.98
    assert by_row / SIMULATIONS < 0.80


def test_pairing_sees_a_gain_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(3)
    b = (rng.random(300) < 0.5).astype(float)
    a = b.copy()
    a[np.flatnonzero(b == 0)[:12]] = 1
    rows = np.arange(300)
    assert interval(a, rows, 2000, 0).low < interval(b, rows, 2000, 0).high
    difference = paired(a, b, rows, 2000, 0)
    assert difference.value == pytest.approx(0.04)
    assert difference.outcome == "better"
    assert paired(b, a, rows, 2000, 0).outcome == "worse"


@pytest.mark.parametrize(
    ("gain", "noise", "margin", "outcome"),
    [
        (0.0, 0.01, 0.02, "equivalent"),
        (0.01, 0.01, 0.02, "equivalent"),
        (0.2, 0.1, 0.02, "better"),
        (-0.2, 0.1, 0.02, "worse"),
        (0.015, 0.2, 0.025, "not worse"),
        (0.0, 0.9, 0.02, "undecided"),
    ],
)
@pytest.mark.parametrize("lower_is_better", [False, True])
def test_outcomes_follow_the_interval_and_the_margin(
    gain: float, noise: float, margin: float, outcome: str, lower_is_better: bool
) -> None:
    swing = np.tile([noise, -noise], 200)
    a = 0.5 + (-gain if lower_is_better else gain) + swing
    measure = Measure(bounds=None, lower_is_better=lower_is_better, margin=margin)
    difference = paired(a, np.full(400, 0.5), np.arange(400), 1000, 0, measure)
    assert difference.outcome == outcome
    assert difference.value == pytest.approx(a.mean() - 0.5)


def test_all_right_is_not_taken_for_certain() -> None:
    for rows in (1, 5, 100):
        ends = interval(np.ones(rows), np.arange(rows), 500, 0)
        exact = binomtest(rows, rows).proportion_ci(0.95, method="exact")
        assert (ends.low, ends.high) == (pytest.approx(exact.low), 1.0)
    assert interval(np.ones(100), np.zeros(100), 500, 0).low == pytest.approx(0.025)


def test_equal_answers_on_few_rows_are_not_called_equivalent() -> None:
    same = np.array([1.0, 0.0, 1.0, 1.0])
    assert paired(same, same, np.arange(4), 500, 0, Measure(margin=0.01)).outcome == "undecided"
    many = np.tile(same, 500)
    assert paired(many, many, np.arange(2000), 500, 0, Measure(margin=0.01)).outcome == "equivalent"


def test_a_score_without_bounds_and_one_cluster_has_an_interval_without_width() -> None:
    assert interval(np.array([1.5, 2.5]), np.zeros(2), 100, 0, Measure(bounds=None)) == Interval(2.0, 2.0)


def test_weights_make_the_mean_a_ratio_of_sums() -> None:
    bits, size = np.array([10.0, 30.0, 5.0, 90.0]), np.array([10, 10, 5, 60])
    assert mean(bits / size, size) == pytest.approx(bits.sum() / size.sum())
    ends = interval(bits / size, np.arange(4), 4000, 0, Measure(bounds=None), size)
    assert 0 < ends.low < bits.sum() / size.sum() < ends.high <= 3.0


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30),
    st.integers(0, 3),
)
def test_intervals_are_finite_ordered_repeatable_and_blind_to_order(rows: list[tuple[float, int]], seed: int) -> None:
    scores, clusters = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    ends = interval(scores, clusters, 50, seed)
    assert -1e-9 <= ends.low <= ends.high <= 1 + 1e-9
    assert interval(scores, clusters, 50, seed) == ends
    back = interval(scores[::-1], clusters[::-1], 50, seed)
    assert (back.low, back.high) == (pytest.approx(ends.low), pytest.approx(ends.high))


def test_a_large_test_set_takes_less_than_a_second() -> None:
    scores = np.random.default_rng(0).random(3080)
    start = time.process_time()
    interval(scores, np.arange(3080), 2000, 0)
    assert time.process_time() - start < 1


def test_several_pairs_are_judged_together_and_each_pays_for_the_others() -> None:
    rng = np.random.default_rng(8)
    scores = {"base": (rng.random(300) < 0.5).astype(float)}
    good = scores["base"].copy()
    good[np.flatnonzero(good == 0)[:7]] = 1
    scores["good"] = good
    for place in range(9):
        noisy = scores["base"].copy()
        flipped = rng.choice(300, 20, replace=False)
        noisy[flipped] = 1 - noisy[flipped]
        scores[f"arm{place}"] = noisy
    sample = Sample(np.arange(300), 1000, 0)
    pairs = [(name, "base") for name in scores if name != "base"]
    alone, together = paired(good, scores["base"], np.arange(300), 1000, 0), paired_all(scores, pairs, sample)[0]
    assert alone.outcome == "better" and alone.p == pytest.approx(2 * 0.5**7 / 2)
    assert together.p == pytest.approx(10 * alone.p) and together.interval.low == 0.0
    assert together.outcome != "better"


def test_rows_of_one_cluster_tell_as_much_as_one() -> None:
    rng = np.random.default_rng(9)
    once = (rng.random(200) < 0.7).astype(float)
    assert effective_rows(once, np.arange(200)) == 200
    thrice = np.repeat(once, 3)
    assert effective_rows(thrice, np.repeat(np.arange(200), 3)) == pytest.approx(200, rel=0.01)
    assert effective_rows(np.ones(30), np.repeat(np.arange(10), 3)) == 10


def test_a_skewed_score_gets_an_interval_that_leans() -> None:
    scores = np.repeat([1.0, 0.0], [97, 3])
    ends = interval(scores, np.arange(100), 2000, 0)
    assert 0.97 - ends.low > ends.high - 0.97
    assert ends.high <= 1.0
