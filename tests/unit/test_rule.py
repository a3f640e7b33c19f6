"""The rule for what the user left open: its written values, and that it moves the right way."""

import pytest

from luthier.train import rule


def test_small_models_train_every_weight_and_large_ones_an_adapter():
    assert rule.choose(6_800_000, 256, 10_000, 60, None).method == "full"
    assert rule.choose(1_200_000_000, 2048, 10_000, 60, None).method == "lora"
    assert rule.choose(1_200_000_000, 2048, 10_000, 60, "full").method == "full"


def test_the_rate_is_the_written_formula():
    assert rule.learning_rate("full", 2000) == pytest.approx(5e-5)
    assert rule.learning_rate("lora", 2000) == pytest.approx(5e-4)
    assert rule.learning_rate("full", 500) == pytest.approx(5e-5 * 4**0.781, rel=1e-3)
    assert rule.learning_rate("full", 8) == 1e-3
    assert rule.learning_rate("lora", 8) == 2e-3


@pytest.mark.parametrize("method", ["full", "lora"])
def test_wider_models_get_smaller_rates(method):
    rates = [rule.learning_rate(method, width) for width in (64, 256, 1024, 4096)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]


def test_fewer_rows_are_seen_more_often():
    assert [rule.epochs(rows) for rows in (100, 999, 1000, 4999, 5000, 100_000)] == [10, 10, 5, 5, 3, 3]


def test_a_step_takes_sixteen_rows_and_an_epoch_has_at_least_four_steps():
    assert rule.batch_tokens(1000, 50) == 16 * 50
    assert rule.batch_tokens(5000, 50) == 32 * 50
    assert rule.batch_tokens(20, 50) == 5 * 50
    assert rule.batch_tokens(1, 0.2) == 1
