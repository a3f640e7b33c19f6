"""After which steps a training validates and saves: the loop asks for one step, a forecast for how many there are."""

import math

from luthier.config.settings import TrainSettings


def validation_due(train: TrainSettings, step: int) -> bool:
    """Tell whether a validation follows this step."""
    assert train.steps
    return step == train.steps or (train.validate_every is not None and step % train.validate_every == 0)


def save_due(train: TrainSettings, step: int) -> bool:
    """Tell whether a checkpoint follows this step, whatever clock, epoch and validation say: every tenth of the run, and the end."""
    assert train.steps
    return step == train.steps or step % _tenth(train.steps) == 0


def validations(train: TrainSettings, after: int, upto: int) -> int:
    """Count the steps behind `after` up to `upto` that a validation follows."""
    assert train.steps
    return _multiples([train.validate_every] if train.validate_every else [], train.steps, after, upto)


def saves(train: TrainSettings, after: int, upto: int) -> int:
    """Count the steps that a checkpoint follows, each validation's included: its weights may be the best so far."""
    assert train.steps
    every = [train.validate_every] if train.validate_every else []
    return _multiples([*every, _tenth(train.steps)], train.steps, after, upto)


def _tenth(steps: int) -> int:
    return max(1, steps // 10)


def _multiples(intervals: list[int], last: int, after: int, upto: int) -> int:
    """Count the numbers behind `after` up to `upto` that are `last` or a multiple of one of at most two intervals."""

    def count(interval: int) -> int:
        return upto // interval - after // interval

    found = sum(map(count, intervals)) - (count(math.lcm(*intervals)) if len(intervals) == 2 else 0)
    return found + (after < last <= upto and all(last % interval for interval in intervals))
