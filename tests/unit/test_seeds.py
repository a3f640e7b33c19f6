"""A claim about a recipe needs seeds: what one lucky seed shows is not what the recipe does."""

import numpy as np
import pytest

from luthier.verdict.seeds import over_seeds
from luthier.verdict.stats import Measure, paired

MARGIN = Measure(margin=0.01)


def gains(rng: np.random.Generator, of_seeds: list[float], rows: int = 800) -> np.ndarray:
    """Draw gains of -1, 0 and 1 whose expected mean under each seed is the one given."""
    return np.stack([(rng.random(rows) < 0.2 + gain).astype(float) - (rng.random(rows) < 0.2) for gain in of_seeds])


def test_seeds_that_agree_confirm_and_seeds_that_disagree_do_not() -> None:
    rng = np.random.default_rng(0)
    alike = over_seeds(gains(rng, [0.1, 0.1, 0.1]), np.arange(800), MARGIN)
    assert alike.outcome == "better" and alike.over_seeds < alike.over_rows * 2
    apart = over_seeds(gains(rng, [0.3, 0.0, 0.0]), np.arange(800), MARGIN)
    assert apart.outcome == "undecided" and apart.over_seeds > 3 * apart.over_rows
    assert apart.value == pytest.approx(np.mean(apart.gains))


def test_equal_recipes_are_called_different_in_at_most_five_of_100_comparisons() -> None:
    rng = np.random.default_rng(1)
    called = 0
    for _ in range(600):
        found = over_seeds(gains(rng, list(rng.normal(0, 0.05, 4)), 300), np.arange(300), MARGIN)
        called += found.outcome in ("better", "worse")
    assert called / 600 <= 0.06


def test_one_cluster_tells_nothing_about_rows() -> None:
    found = over_seeds(np.ones((2, 5)), np.zeros(5), MARGIN)
    assert found.outcome == "undecided" and found.over_rows == np.inf


def learned(rng: np.random.Generator, rows: np.ndarray, signs: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Train a small network of random inner weights, as another seed would, and return its answers of -1 and 1."""
    inner = rng.normal(size=(rows.shape[1], 24))
    hidden, unseen = (np.maximum(one @ inner, 0.0) for one in (rows, asked))
    weights = np.linalg.solve(hidden.T @ hidden + 0.1 * np.eye(24), hidden.T @ signs)
    return np.sign(unseen @ weights)


def test_one_recipe_trained_twice_under_other_seeds_is_not_called_better_than_itself() -> None:
    """A/A by retraining: four seeds against four others of one recipe, on the same rows."""
    rng = np.random.default_rng(7)
    called = of_one_seed = 0
    for _ in range(400):
        rows, truth = rng.normal(size=(400, 6)), rng.normal(size=6)
        signs = np.sign(rows @ truth + 0.5 * rng.normal(size=400) + rows[:, 0] * rows[:, 1])
        right = np.stack([learned(rng, rows[:100], signs[:100], rows[100:]) == signs[100:] for _ in range(8)])
        gains_KR = right[:4].astype(float) - right[4:]
        called += over_seeds(gains_KR, np.arange(300), MARGIN).outcome in ("better", "worse")
        of_one_seed += paired(*right[[0, 4]].astype(float), np.arange(300), 100, 0, MARGIN).outcome in (
            "better",
            "worse",
        )
    assert called / 400 <= 0.055
    assert of_one_seed / 400 > 0.08, "two checkpoints do differ: what one seed shows is no claim about the recipe"
