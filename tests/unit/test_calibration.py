"""The statistics keep what they promise: simulated errors, power and rows, over clusters as data has them."""

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from luthier.verdict.permute import holm, sign_flip
from luthier.verdict.power import rows_to_decide
from luthier.verdict.stats import Difference, Measure, paired

SIMULATIONS = 2000
MARGIN = 0.06


def two_arms(rng: np.random.Generator, clusters: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw right and wrong answers of two arms to clusters of one to three rows; in a cluster mostly one arm leads."""
    of_row = np.repeat(np.arange(clusters), rng.integers(1, 4, clusters))
    differ = (rng.random(clusters) < 0.2)[of_row] & (rng.random(len(of_row)) < 0.8)
    leads = (rng.random(clusters) < 0.5 + gain / (2 * 0.2 * 0.8))[of_row]
    b = (rng.random(len(of_row)) < 0.6).astype(float)
    b[differ] = np.where(leads, 0.0, 1.0)[differ]
    a = np.where(differ, leads, b).astype(float)
    return a, b, of_row


def judged(rng: np.random.Generator, clusters: int, gain: float = 0.0, margin: float = MARGIN) -> Difference:
    return paired(*two_arms(rng, clusters, gain), 200, 0, Measure(margin=margin))


def test_two_equal_arms_are_called_different_in_four_to_five_and_a_half_of_100_tests() -> None:
    rng = np.random.default_rng(2)
    called = kept = 0
    while kept < SIMULATIONS:
        a, b, clusters = two_arms(rng, 160)
        if len(a) >= 300 and np.count_nonzero(a != b) >= 20:
            kept += 1
            called += paired(a, b, clusters, 200, 0).outcome in ("better", "worse")
    assert 0.04 <= called / SIMULATIONS <= 0.055


def test_few_clusters_never_call_more_than_they_may() -> None:
    rng = np.random.default_rng(3)
    for clusters in (6, 15, 40):
        called = sum(judged(rng, clusters).outcome in ("better", "worse") for _ in range(1000))
        assert called <= 55, clusters


def test_a_row_wise_test_of_the_same_data_would_call_too_many() -> None:
    """What the clusters are for: without them the share of false calls is far above 5 %."""
    rng = np.random.default_rng(4)
    called = 0
    for _ in range(300):
        a, b, _ = two_arms(rng, 160)
        called += paired(a, b, np.arange(len(a)), 200, 0).outcome in ("better", "worse")
    assert called / 300 > 0.08


@pytest.mark.parametrize(("gain", "margin", "outcome"), [(0.06, 0.03, "better"), (0.0, 0.06, "equivalent")])
def test_the_rows_that_an_undecided_test_asks_for_decide_four_times_in_five(
    gain: float, margin: float, outcome: str
) -> None:
    rng = np.random.default_rng(5)
    a, b, clusters = two_arms(rng, 4000, gain)
    pilot = paired(a, b, clusters, 200, 0)
    small = 0.01  # as a test of a hundredth of the rows would have seen it
    rows = rows_to_decide(gain, pilot.standard_error / small**0.5, round(small * len(a)), 40, margin)
    assert rows is not None and rows.aim == ("a difference" if gain else "equivalence")
    needed = round(rows.total * 4000 / len(a))
    called = sum(judged(rng, needed, gain, margin).outcome == outcome for _ in range(300))
    assert 0.73 <= called / 300 <= 0.87


def test_a_difference_of_just_the_margin_is_called_equivalent_in_at_most_the_promised_share() -> None:
    """Each of the two one-sided tests errs in 2.5 of 100 cases; the true difference lies on the border of one of them."""
    rng = np.random.default_rng(8)
    on_the_border = [paired(*two_arms(rng, 400, MARGIN), 1000, 0, Measure(margin=MARGIN)).outcome for _ in range(600)]
    assert 0.01 <= on_the_border.count("equivalent") / 600 <= 0.04
    inside = [judged(rng, 900, gain=MARGIN / 4).outcome for _ in range(60)]
    assert inside.count("equivalent") > 40, "where there is power, equivalence is found"


def test_equal_answers_throughout_ask_for_as_many_rows_as_bound_the_unseen() -> None:
    rows = rows_to_decide(0.0, 0.0, 100, 100, 0.01)
    assert rows is not None
    same = np.ones(rows.total)
    assert paired(same, same, np.arange(rows.total), 50, 0, Measure(margin=0.01)).outcome == "equivalent"
    fewer = np.ones(rows.total - 2)
    assert paired(fewer, fewer, np.arange(rows.total - 2), 50, 0, Measure(margin=0.01)).outcome == "undecided"
    assert rows_to_decide(0.0, 0.1, 100, 100, 0.0) is None


def test_the_sign_flip_test_is_scipys_with_half_of_the_ties() -> None:
    differences = np.random.default_rng(6).normal(0.3, 1, 10)
    theirs = permutation_test((differences, np.zeros(10)), lambda x, y: np.mean(x - y), permutation_type="samples")
    assert sign_flip(differences, 1000, 0) == pytest.approx(theirs.pvalue - 1 / 2**10)
    many = np.random.default_rng(7).normal(0.25, 1, 60)
    theirs = permutation_test(
        (many, np.zeros(60)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=0
    )
    assert sign_flip(many, 20_000, 0) == pytest.approx(theirs.pvalue, abs=0.01)


@pytest.mark.parametrize(("won", "lost"), [(14, 6), (6, 14), (9, 9), (1, 0), (300, 250)])
def test_rows_that_are_right_or_wrong_get_mcnemars_mid_p(won: int, lost: int) -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [won, lost, 50])
    coins, lead = won + lost, max(won, lost)
    exact = binomtest(lead, coins).pvalue
    ties = sum(binomtest(lead, coins).pvalue - binomtest(lead + 1, coins).pvalue for _ in [0] if lead < coins)
    expected = exact - (ties if lead < coins else exact) / 2 if won != lost else 1 - _point(coins, lead) / 2
    assert sign_flip(differences, 100, 0) == pytest.approx(expected)


def _point(coins: int, heads: int) -> float:
    return (
        binomtest(heads, coins, alternative="greater").pvalue
        - binomtest(heads + 1, coins, alternative="greater").pvalue
    )


def test_no_difference_at_all_has_a_p_value_of_1() -> None:
    assert sign_flip(np.zeros(9), 100, 0) == 1.0


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls() -> None:
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
