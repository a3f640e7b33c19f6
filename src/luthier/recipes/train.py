"""Train what the plan says, from the newest checkpoint if there is one."""

import math

import numpy as np
import torch

from luthier.config.settings import TrainSettings
from luthier.core import parts
from luthier.data.loader import SequenceStore, micro_batches
from luthier.recipes.job import Job
from luthier.train.loop import Objective, Progress, Trainer
from luthier.train.policy import Policy


def train_stage(job: Job) -> None:
    """Train, showing live progress; what came out is the event `trained` in events.jsonl."""
    settings = job.settings
    objective: Objective = parts.load("luthier.train.objectives", settings.train.objective, "Objective")()
    store, held_out = job.rendered("train").store, job.rendered("validation").store
    policy = job.policy
    trainer = Trainer(policy, objective, store, settings.train, settings.seed, job.run)
    validate = (lambda: mean_loss(policy, held_out, settings.train)) if len(held_out) else None
    steps = settings.train.steps
    with job.voice.bar("train", steps) as bar:
        outcome = trainer.train(job.fingerprint(), validate, lambda progress: bar.show(progress.step, words(progress)))
    job.run.event(
        "trained", steps=outcome.steps, best_step=outcome.best_step, stopped_early=outcome.stopped_early, tokens=outcome.tokens,
        best_validation_loss=outcome.best_loss if math.isfinite(outcome.best_loss) else None,
        seconds=round(outcome.seconds, 2), memory_bytes=outcome.peak_memory_bytes,
        tokens_per_second=round(outcome.tokens / max(1e-9, outcome.seconds), 1),
    )  # fmt: skip
    job.forget_policy()
    early = f", stopped early after step {outcome.steps}" if outcome.stopped_early else ""
    best = (
        f"; best validation loss {outcome.best_loss:.4f}, the weights of step {outcome.best_step} serve"
        if validate
        else ""
    )
    job.voice.say(f"trained {outcome.tokens:,} tokens in {outcome.seconds:,.0f} s{early}{best}")


def mean_loss(policy: Policy, store: SequenceStore, train: TrainSettings) -> float:
    """Return the mean negative log-likelihood of the trained tokens, in nats."""
    assert train.micro_tokens and train.layout
    total = weight = 0.0
    with torch.no_grad():
        for batch in micro_batches(store, np.arange(len(store)), train.micro_tokens, train.layout):
            total += policy.weighted_nll(batch).item()
            weight += float(batch.weight_T.sum())
    return total / weight


def words(progress: Progress) -> str:
    """What stands behind the bar: step, epoch, loss, rate, speed, memory."""
    held_out = f" (held out {progress.validation_loss:.4f})" if progress.validation_loss is not None else ""
    return (
        f"step {progress.step}/{progress.num_steps} epoch {progress.epoch:.2f} loss {progress.loss:.4f}{held_out} "
        f"lr {progress.lr:.2e} {progress.tokens_per_second:,.0f} tokens/s {progress.memory_bytes / 2**30:.1f} GiB"
    )
