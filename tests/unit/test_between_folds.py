"""Intervals that respect folds: models that differ from fold to fold are not taken for rows that agree."""

import numpy as np
import pytest
from scipy.stats import t as student

from luthier.verdict.between_folds import errors
from luthier.verdict.stats import Difference, Measure, Sample, intervals, paired_all

FOLDS = 5


def gains(rng: np.random.Generator, rows: int, luck: float, gain: float = 0.0) -> tuple[np.ndarray, Sample]:
    """Draw differences of -1, 0 and 1 whose mean in each fold is the gain plus the luck of the model of that fold."""
    fold_R = np.arange(rows) % FOLDS
    lean_R = (gain + luck * rng.standard_normal(FOLDS))[fold_R]
    drawn_R = rng.random(rows)
    differences_R = np.where(drawn_R < 0.15 + lean_R / 2, 1.0, np.where(drawn_R > 0.85 + lean_R / 2, -1.0, 0.0))
    return differences_R, Sample(np.arange(rows) // FOLDS * FOLDS + fold_R, 100, 0, Measure(margin=0.01), None, fold_R)


def judged(differences_R: np.ndarray, sample: Sample) -> Difference:
    return paired_all({"a": differences_R, "b": np.zeros(len(differences_R))}, [("a", "b")], sample)[0]


def called(rng: np.random.Generator, luck: float, times: int, *, respect: bool = True, gain: float = 0.0) -> float:
    found = 0
    for _ in range(times):
        differences_R, sample = gains(rng, 400, luck, gain)
        whole = sample if respect else Sample(sample.clusters_R, 100, 0, sample.measure)
        found += judged(differences_R, whole).outcome in ("better", "worse")
    return found / times


@pytest.mark.parametrize("luck", [0.0, 0.03])
def test_equal_arms_are_called_different_in_at_most_five_and_a_half_of_100_cross_fittings(luck: float):
    assert called(np.random.default_rng(0), luck, 500) <= 0.055


def test_without_the_folds_the_luck_of_the_models_would_pass_for_a_difference():
    assert called(np.random.default_rng(1), 0.05, 200, respect=False) > 0.1


def test_a_gain_that_every_fold_shows_is_found():
    assert called(np.random.default_rng(2), 0.0, 100, gain=0.12) > 0.75


def test_models_that_disagree_widen_the_interval_and_raise_the_p_value():
    fold_R = np.repeat(np.arange(FOLDS), 60)
    rng = np.random.default_rng(3)
    agree_R = (rng.random(300) < 0.3).astype(float)
    apart_R = (rng.random(300) < np.array([0.0, 0.1, 0.3, 0.5, 0.6])[fold_R]).astype(float)
    sample = Sample(np.arange(300), 200, 0, folds_R=fold_R)
    plain = Sample(np.arange(300), 200, 0)
    for scores_R, most in ((agree_R, 1.45), (apart_R, 10.0)):
        wide, narrow = (np.ptp(np.concatenate(intervals(scores_R[:, None], one))) for one in (sample, plain))
        assert narrow <= wide <= most * narrow
    wide, narrow = (np.ptp(np.concatenate(intervals(apart_R[:, None], one))) for one in (sample, plain))
    assert wide > 3 * narrow
    assert judged(apart_R, sample).p > judged(apart_R, plain).p


def test_the_error_is_that_of_rows_and_of_models_added_up():
    fold_R = np.repeat(np.arange(3), 4)
    scores_R = np.array([1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0], dtype=float)
    found = errors(scores_R[:, None], np.arange(12), None, fold_R)
    rows = scores_R.var(ddof=1) / 12
    models = (1 / 3 + 1 / 2) * (np.var([0.5, 1, 0], ddof=1) - np.mean([1 / 12, 0, 0]))
    assert found.total_S[0] == pytest.approx(np.sqrt(rows + models))
    freedom = (rows + models) ** 2 / (rows**2 / 11 + models**2 / 2)
    assert found.freedom_S[0] == pytest.approx(freedom)
    assert found.p_values_S(np.array([0.5]))[0] == pytest.approx(2 * student.sf(0.5 / found.total_S[0], freedom))


def test_one_fold_and_rows_that_never_vary_change_nothing():
    same = Sample(np.arange(40), 100, 0, folds_R=np.zeros(40, dtype=int))
    scores_R = np.arange(40) % 2 * 1.0
    plain = intervals(scores_R[:, None], Sample(np.arange(40), 100, 0))
    assert np.allclose(intervals(scores_R[:, None], same), plain)
    full = Sample(np.arange(40), 100, 0, folds_R=np.arange(40) % 4)
    assert np.allclose(intervals(np.ones((40, 1)), full), intervals(np.ones((40, 1)), Sample(np.arange(40), 100, 0)))
