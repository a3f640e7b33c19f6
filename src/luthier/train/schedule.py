"""The learning rate as a pure function of the step."""

import math

from luthier.config.settings import TrainSettings


def learning_rate(settings: TrainSettings, lr: float, step: int, num_steps: int) -> float:
    """Return the rate of 0-based `step` of `num_steps`: a linear warm-up to `lr`, then the schedule's course.

    cosine and linear fall towards `final_lr` x `lr`, which they would reach one step after the last;
    constant stays; wsd (warm-up, stable, decay; Hu et al. 2024, arXiv 2404.06395) stays and falls
    linearly in its last part.
    """
    warmup = math.ceil(settings.warmup * num_steps)
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, num_steps - warmup)
    return lr * (
        settings.final_lr + (1 - settings.final_lr) * _share(settings, progress, num_steps - warmup, num_steps)
    )


def _share(settings: TrainSettings, progress: float, after_warmup: int, num_steps: int) -> float:
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "linear":
        return 1.0 - progress
    if settings.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    decay = settings.decay * num_steps / max(1, after_warmup)
    return min(1.0, (1.0 - progress) / decay) if decay > 0 else 1.0
