"""The time left is the pace of the steps with the validations and checkpoints that are to come, and no others."""

import pytest
from tiny_training import resolved

from luthier.recipes import time_left
from luthier.recipes.pace import Pace
from luthier.recipes.time_left import Between, TimeLeft

TRAIN = resolved(steps=30, validate_every=7)
BETWEEN = Between(validation=5.0, save=3.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    return now


def followed_by(step: int) -> float:
    validation = step % 7 == 0 or step == 30
    return 5.0 * validation + 3.0 * (validation or step % 3 == 0)


def test_what_was_foretold_comes_true(clock: list[float]):
    left, told = TimeLeft(TRAIN, BETWEEN, 2.0), {}
    clock[0] += 50  # loading, and a first step that warms up
    for step in range(1, 31):
        clock[0] += 2.0
        told[step] = (left.after(step), clock[0])
        clock[0] += followed_by(step)
    for step in (1, 2, 3, 4, 8, 15, 29, 30):
        foretold, then = told[step]
        assert foretold == pytest.approx(clock[0] - then), step


def test_a_resumed_training_counts_its_own_steps(clock: list[float]):
    left = TimeLeft(TRAIN, Between(0, 0), 4.0)
    for step in range(20, 25):
        clock[0] += 4.0
        last = left.after(step)
    assert last == pytest.approx(4.0 * 6)


def test_what_the_plan_foretold_counts_as_much_as_two_steps(clock: list[float]):
    left, told = TimeLeft(TRAIN, Between(0, 0), 5.0), []
    for step in range(1, 30):
        clock[0] += 2.0
        told.append(left.after(step) / (30 - step))
    assert told[0] == pytest.approx(5.0)
    assert told[2] == pytest.approx((2 * 5.0 + 2 * 2.0) / 4)
    assert told[28] == pytest.approx((2 * 5.0 + 28 * 2.0) / 30)


def test_the_plan_counts_validations_and_checkpoints():
    pace = Pace(tokens_per_second=100, scored_per_second=200, update_seconds=0.5, save_seconds=3)
    between = sum(followed_by(step) for step in range(1, 31))
    assert pace.seconds(TRAIN, 6000, 1000) == pytest.approx(60 + 15 + 3 + between)
