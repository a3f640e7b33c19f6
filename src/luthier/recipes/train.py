"""Train what the plan says, from the newest checkpoint if there is one."""

import math

import numpy as np
import torch

from luthier.config.settings import TrainSettings
from luthier.core import parts
from luthier.data.loader import SequenceStore, micro_batches
from luthier.recipes.job import Job
from luthier.recipes.time_left import Between, TimeLeft
from luthier.recipes.voice import Bar
from luthier.train.loop import Objective, Outcome, Progress, Trainer
from luthier.train.policy import Policy, answered
from luthier.train.state import Validation
from luthier.train.world import world


def train_stage(job: Job) -> None:
    """Train, showing live progress; what came out is the event `trained` in events.jsonl."""
    settings = job.settings
    objective: Objective = parts.load("luthier.train.objectives", settings.train.objective, "Objective")()
    store, held_out = job.training_store, job.rendered("validation").store
    policy = job.policy
    if world().leads:
        world().told(str(job.run.path.absolute()))
    trainer = Trainer(policy, objective, store, settings.train, settings.seed, job.run, world())
    validate = (lambda: validation(policy, held_out, settings.train)) if len(held_out) else None
    steps = settings.train.steps
    with job.voice.bar("train", steps, own_time_left=True) as bar:
        outcome = trainer.train(job.fingerprint(), validate, Watcher(job, bar, held_out.num_tokens))
    if not world().leads:
        job.forget_policy()
        return
    job.run.event(
        "trained", steps=outcome.steps, best_step=outcome.best_step, stopped_early=outcome.stopped_early, tokens=outcome.tokens,
        best_validation_loss=outcome.best_loss if math.isfinite(outcome.best_loss) else None,
        best_validation_right=outcome.best_right if outcome.best_right >= 0 else None,
        seconds=round(outcome.seconds, 2), memory_bytes=outcome.peak_memory_bytes,
        tokens_per_second=round(outcome.tokens / max(1e-9, outcome.seconds), 1),
    )  # fmt: skip
    job.forget_policy()
    early = f", stopped early after step {outcome.steps}" if outcome.stopped_early else ""
    served = f"; {_served(outcome, settings.train)}" if validate else ""
    job.voice.say(f"trained {outcome.tokens:,} tokens in {outcome.seconds:,.0f} s{early}{served}")
    job.voice.say(_held_against_plan(job, outcome))


class Watcher:
    """Shows every step on the bar, and enters once, when a tenth of the steps is done, how much time it then says is left."""

    def __init__(self, job: Job, bar: Bar, held_out: int) -> None:
        plan = {key: float(str(value)) for key, value in job.plan.items() if isinstance(value, int | float)}
        between = Between(held_out / plan["validation_tokens_per_second"], plan.get("save_seconds", 0))
        step_seconds = plan["tokens"] / plan["tokens_per_second"] / plan["steps"] + plan.get("update_seconds", 0)
        self._left = TimeLeft(job.settings.train, between, step_seconds)
        self._job, self._bar, self._entered = job, bar, False

    def __call__(self, progress: Progress) -> None:
        """Show a step."""
        left = self._left.after(progress.step)
        self._bar.show(progress.step, words(progress), left)
        if self._entered or 10 * progress.step < progress.num_steps:
            return
        self._entered = True
        if world().leads:
            self._job.run.event("foretold", step=progress.step, seconds_left=round(left, 2))


def _held_against_plan(job: Job, outcome: Outcome) -> str:
    """Say what the plan predicted beside what was measured; of a run that stopped early, for the steps that it made."""
    plan = job.plan
    seconds = float(str(plan["seconds"])) * outcome.steps / int(str(plan["steps"]))
    memory = int(str(plan["memory_bytes"]))
    return (
        f"predicted {seconds:,.1f} s and {memory / 2**30:.2f} GiB, measured {outcome.seconds:,.1f} s "
        f"({outcome.seconds / max(seconds, 1e-9):.2f} times) and {outcome.peak_memory_bytes / 2**30:.2f} GiB ({outcome.peak_memory_bytes / memory:.2f} times)"
    )


def validation(policy: Policy, store: SequenceStore, train: TrainSettings) -> Validation:
    """Return the mean loss of the trained tokens and the share of sequences answered to the letter."""
    assert train.micro_tokens and train.layout
    total = weight = 0.0
    right = 0
    batches = list(micro_batches(store, np.arange(len(store)), train.micro_tokens, train.layout))
    for batch in world().own(batches):
        scores = policy.scores(batch)
        weight_T = torch.from_numpy(batch.weight_T).to(scores.logp_T.device)
        total -= (scores.logp_T * weight_T).sum().item()
        weight += float(batch.weight_T.sum())
        if batch.rows:  # one without only keeps the other processes company
            right += sum(answered(batch, scores.greedy_T))
    total, weight, all_right = world().sum([total, weight, float(right)])
    return Validation(total / weight, all_right / len(store))


def _served(outcome: Outcome, train: TrainSettings) -> str:
    """Say which weights serve and why."""
    if train.weights == "last":
        return f"the last weights serve (best validation loss {outcome.best_loss:.4f})"
    why = (
        f"{100 * outcome.best_right:.1f} % of the validation rows to the letter, " if train.weights == "answers" else ""
    )
    return f"the weights of step {outcome.best_step} serve: {why}validation loss {outcome.best_loss:.4f}"


def words(progress: Progress) -> str:
    """What stands behind the bar: step, epoch, loss, rate, speed, memory."""
    now = progress.validation
    held_out = f" (held out {now.loss:.4f}, {100 * now.right:.1f} % right)" if now is not None else ""
    return (
        f"step {progress.step}/{progress.num_steps} epoch {progress.epoch:.2f} loss {progress.loss:.4f}{held_out} "
        f"lr {progress.lr:.2e} {progress.tokens_per_second:,.0f} tokens/s {progress.memory_bytes / 2**30:.1f} GiB"
    )
