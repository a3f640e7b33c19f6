"""How much time a training has left: its own pace, and what stands between its steps as the plan measured it.

A mean over all that has passed would not know, a tenth into a training, of the validations and checkpoints to come.
"""

import time
from dataclasses import dataclass

from luthier.config.settings import TrainSettings
from luthier.train.due import saves, validations


@dataclass(frozen=True)
class Between:
    """The seconds of one validation and of one checkpoint."""

    validation: float
    save: float

    def seconds(self, train: TrainSettings, after: int, upto: int) -> float:
        """Return the seconds of what follows the steps behind `after` up to `upto`."""
        return self.validation * validations(train, after, upto) + self.save * saves(train, after, upto)


class TimeLeft:
    """The seconds left, from the steps of this process; it begins when training does."""

    def __init__(self, train: TrainSettings, between: Between) -> None:
        self._train, self._between = train, between
        self._start = time.monotonic()
        self._first: int | None = None

    def after(self, step: int) -> float | None:
        """Return what is left once this step is done, before what follows it; None after the first step, which warms up."""
        assert self._train.steps
        now = time.monotonic()
        if self._first is None:
            self._first, self._start = step, now
            return None
        passed = now - self._start - self._between.seconds(self._train, self._first - 1, step - 1)
        pace = max(0.0, passed) / (step - self._first)
        return pace * (self._train.steps - step) + self._between.seconds(self._train, step - 1, self._train.steps)
