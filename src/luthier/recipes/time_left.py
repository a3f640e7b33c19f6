"""How much time a training has left: its own pace and the plan's, and what stands between its steps as the plan measured it.

A mean over all that has passed would not know, a tenth into a training, of the validations and checkpoints to come.
"""

import time
from dataclasses import dataclass

from luthier.config.settings import TrainSettings
from luthier.train.due import saves, validations

_FORETOLD_STEPS = 2


@dataclass(frozen=True)
class Between:
    """The seconds of one validation and of one checkpoint."""

    validation: float
    save: float

    def seconds(self, train: TrainSettings, after: int, upto: int) -> float:
        """Return the seconds of what follows the steps behind `after` up to `upto`."""
        return self.validation * validations(train, after, upto) + self.save * saves(train, after, upto)


class TimeLeft:
    """The seconds left, from the steps of this process and what the plan foretold of one; it begins when training does.

    Steps differ in size, so one alone foretells little: the plan's figure counts as much as `_FORETOLD_STEPS` of them.
    The first step warms up and does not count.
    """

    def __init__(self, train: TrainSettings, between: Between, step_seconds: float) -> None:
        self._train, self._between, self._foretold = train, between, step_seconds
        self._start = 0.0
        self._first: int | None = None

    def after(self, step: int) -> float:
        """Return what is left once this step is done, before what follows it."""
        assert self._train.steps
        now = time.monotonic()
        if self._first is None:
            self._first, self._start = step, now
        passed = now - self._start - self._between.seconds(self._train, self._first - 1, step - 1)
        seen = step - self._first
        pace = (max(0.0, passed) + _FORETOLD_STEPS * self._foretold) / (seen + _FORETOLD_STEPS)
        return pace * (self._train.steps - step) + self._between.seconds(self._train, step - 1, self._train.steps)
