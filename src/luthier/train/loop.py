"""The training loop.

It knows batches, an objective and a folder. Everything that must repeat exactly goes to the
metrics journal (floats as hex); what cannot, such as seconds, to the timings journal. Saved state
is integers and tensors only: the order of rows and all noise are counted from (seed, step).
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from luthier.compat.allocation import give_back_memory
from luthier.config.settings import TrainSettings
from luthier.core.errors import RunFailed, SettingsError, Stopped
from luthier.core.hashing import derived_seed
from luthier.core.journal import Journal, cut
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject
from luthier.data.loader import Batch, Layout, SequenceStore, micro_batches
from luthier.data.replay import mixed_steps
from luthier.train import checkpoint
from luthier.train.clock import Clock, memory_bytes, peak_memory_bytes
from luthier.train.dealt import deal_layers, deals
from luthier.train.due import save_due, validation_due
from luthier.train.optim import MasterAdamW
from luthier.train.policy import Policy, mode
from luthier.train.schedule import learning_rate
from luthier.train.signals import stop_request
from luthier.train.state import Entry, State, Validation, refuse_drift
from luthier.train.world import ALONE, World

_ROWS_NAMED = 20
_STEPS_BETWEEN_TRIMS = 16


class Objective(Protocol):
    """What the loop asks of an objective; see `train/objectives/`."""

    rendering: str

    def count(self, batch: Batch) -> float: ...

    def loss(self, policy: Policy, batch: Batch) -> torch.Tensor: ...


@dataclass(frozen=True)
class Progress:
    """What a watcher is told after every step."""

    step: int
    num_steps: int
    epoch: float
    loss: float
    validation: Validation | None
    lr: float
    tokens_per_second: float
    memory_bytes: int


@dataclass(frozen=True)
class Outcome:
    """How training ended: which step serves, its validation where there was one, and whether patience ran out.

    `best_loss` and `best_right` are those of the best validation, see `train.weights`.
    """

    steps: int
    best_step: int
    best_loss: float
    best_right: float
    stopped_early: bool
    tokens: int
    seconds: float
    peak_memory_bytes: int


class Trainer:
    """One training: what is trained, on what, and where its state is kept.

    `settings` are resolved: nothing that the run depends on is left open.
    """

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        store: SequenceStore,
        settings: TrainSettings,
        seed: int,
        run: RunDir,
        world: World = ALONE,
    ) -> None:
        assert settings.lr and settings.steps and settings.batch_tokens and settings.micro_tokens and settings.layout
        self.policy, self.objective, self.store, self.settings, self.seed, self.run = (
            policy,
            objective,
            store,
            settings,
            seed,
            run,
        )
        self.world = world
        self.lr, self.num_steps, self.batch_tokens = settings.lr, settings.steps, settings.batch_tokens
        self.micro_tokens = settings.micro_tokens
        self.layout: Layout = settings.layout
        if deals(settings, world):
            deal_layers(policy.decoder, world)
        self.optimizer = MasterAdamW(
            {name: p for name, p in policy.model.named_parameters() if p.requires_grad}, settings, world
        )
        self.steps_per_epoch = len(self._steps_of(0))
        self._state = State()
        self._saved_at = 0.0

    def train(
        self, fingerprint: JsonObject, validate: Callable[[], Validation] | None, watch: Callable[[Progress], None]
    ) -> Outcome:
        """Train to the end, from the newest checkpoint if there is one.

        `validate` judges the model by held-out rows. Raises RunFailed on a loss, gradient or weight
        that is not finite, naming step and rows; Stopped after SIGINT or SIGTERM, once everything is saved.
        """
        self._restore_in_turn(fingerprint)
        state = self._state
        clock = Clock(state.seconds)
        files = (self.run.metrics, self.run.timings) if self.world.leads else (Path(os.devnull),) * 2
        with Journal(files[0]) as metrics, Journal(files[1]) as timings, stop_request() as stop:
            if state.step == 0:
                self._save(fingerprint, metrics)
            for micro in self._laid_out_from(state.step):
                if self._out_of_patience():
                    break
                entry = self._train_on(micro)
                clock.tick(entry.tokens)
                if state.step % _STEPS_BETWEEN_TRIMS == 0:
                    give_back_memory()
                if validate is not None and self._validation_due():
                    entry.validation = self._validated(validate)
                metrics.write(entry.as_json())
                timings.write({"step": state.step, "seconds": round(clock.last, 4), "memory_bytes": memory_bytes()})
                state.seconds = clock.total
                watch(self._progress(entry, clock))
                asked_to_stop = self.world.any(stop.signal_number is not None)
                # Clocks differ from process to process, and dealt weights are saved by all together.
                if asked_to_stop or self.world.any(self._save_due()):
                    self._save(fingerprint, metrics)
                if asked_to_stop:
                    raise Stopped(
                        stop.signal_number or signal.SIGTERM,
                        f"stopped after step {state.step} of {self.num_steps}; everything is saved.",
                    )
        return Outcome(
            steps=state.step, best_step=self._serving_step(), best_loss=state.best_loss, best_right=state.best_right,
            stopped_early=state.step < self.num_steps, tokens=state.tokens, seconds=clock.total, peak_memory_bytes=peak_memory_bytes(),
        )  # fmt: skip

    def _restore_in_turn(self, fingerprint: JsonObject) -> None:
        """Take up where the newest checkpoint stands; others than the leader look when it has tidied up."""
        if self.world.leads:
            self._restore(fingerprint)
        self.world.wait()
        if not self.world.leads:
            self._restore(fingerprint)
        self.world.wait()

    def _restore(self, fingerprint: JsonObject) -> None:
        if not self.world.leads:
            found, _ = checkpoint.newest(self.run.checkpoints)
            if found is not None:
                refuse_drift(found.state["fingerprint"], fingerprint)
                self.optimizer.load(found.tensors)
                self._state = State.from_json(found.state)
            elif self.settings.warm_from is not None:
                self._warm_up(Path(self.settings.warm_from))
            return
        checkpoint.clean(self.run.checkpoints)
        found, complaints = checkpoint.newest(self.run.checkpoints)
        for complaint in complaints:
            self.run.event("warn", detail=complaint)
        if found is None:
            cut(self.run.metrics, 0)
            if self.settings.warm_from is not None:
                self._warm_up(Path(self.settings.warm_from))
            return
        refuse_drift(found.state["fingerprint"], fingerprint)
        checkpoint.drop_newer(self.run.checkpoints, found.step)
        self.optimizer.load(found.tensors)
        self._state = State.from_json(found.state)
        cut(self.run.metrics, int(found.state["metrics_offset"]))  # type: ignore[arg-type]  # a number in every state that was written here
        self._saved_at = time.monotonic()
        self.run.event("resumed", step=found.step)

    def _warm_up(self, path: Path) -> None:
        """Take weights and averages from the checkpoint of another run; steps and schedule begin anew."""
        try:
            found = checkpoint.load(path)
        except RunFailed as error:
            raise SettingsError(
                f"train.warm_from: {error} Give a folder such as runs/<run>/checkpoints/000400."
            ) from error
        problem = self.optimizer.mismatch(found.tensors)
        if problem is not None:
            raise SettingsError(f"train.warm_from: {path} holds another model's weights: {problem}.")
        self.optimizer.load(found.tensors)
        if self.world.leads:
            self.run.event("warm_start", path=str(path), step=found.step)

    def _save(self, fingerprint: JsonObject, metrics: Journal) -> None:
        tensors = self.optimizer.tensors()
        sick = [name for name, tensor in tensors.items() if not is_finite(tensor)]
        if sick:
            raise RunFailed(
                f"after step {self._state.step} {', '.join(sick[:3])} is not finite; it is not saved. Try a smaller train.lr."
            )
        self._saved_at = time.monotonic()
        if not self.world.leads:
            return
        metrics.sync()
        state = self._state.as_json() | {"metrics_offset": metrics.offset, "fingerprint": fingerprint}
        checkpoint.save(self.run.checkpoints, self._state.step, tensors, state)
        checkpoint.retain(self.run.checkpoints, self.settings.keep, self._state.best_step or None)

    def _steps_from(self, step: int) -> Iterator[np.ndarray]:
        """Yield the rows of every step from `step` on, epoch after epoch, to the last."""
        passed = epoch = 0
        while passed < self.num_steps:
            steps = self._steps_of(epoch)[: self.num_steps - passed]
            yield from steps[max(0, step - passed) :]
            passed += len(steps)
            epoch += 1

    def _steps_of(self, epoch: int) -> list[np.ndarray]:
        return mixed_steps(
            self.store, self.batch_tokens, self.seed, epoch, share=self.settings.replay, layout=self.layout
        )

    def _laid_out_from(self, step: int) -> Iterator[list[Batch]]:
        """Yield the micro-batches of every step from `step` on; those of the next are laid out while a step is computed."""
        with ThreadPoolExecutor(1, "batches") as beside:
            coming = None
            for indices in self._steps_from(step):
                ready, coming = coming, beside.submit(self._laid_out, indices)
                if ready is not None:
                    yield ready.result()
            if coming is not None:
                yield coming.result()

    def _laid_out(self, indices: np.ndarray) -> list[Batch]:
        return list(micro_batches(self.store, indices, self.micro_tokens, self.layout))

    def _train_on(self, micro: list[Batch]) -> Entry:
        state = self._state
        noise = ("step", state.step) if self.world.leads else ("step", state.step, self.world.rank)
        torch.manual_seed(derived_seed(self.seed, *noise))
        count = sum(self.objective.count(batch) for batch in micro)
        total = 0.0
        with mode(self.policy.model, training=True):
            for batch in self.world.own(micro):
                loss = self.objective.loss(self.policy, batch)
                value = loss.item()
                self._require_finite("loss", value, batch.rows)
                (loss / count).backward()
                self.optimizer.accumulate()
                total += value
        (total,) = self.world.sum([total])
        self.world.add_gradients(self.optimizer.whole_masters)
        norm = self.optimizer.clip_gradients()
        self._require_finite("gradient", norm, [row for batch in micro for row in batch.rows])
        lr = learning_rate(self.settings, self.lr, state.step, self.num_steps)
        self.optimizer.step(lr)
        tokens = sum(batch.num_tokens for batch in micro)
        state.step += 1
        state.tokens += tokens
        processed, trained = (sum(numbers) for numbers in zip(*((b.num_positions, b.num_trained) for b in micro)))
        return Entry(state.step, total / count, tokens, processed, trained, lr, norm)

    def _require_finite(self, what: str, value: float, rows: Sequence[str]) -> None:
        if math.isfinite(value):
            return
        more = f" and {len(rows) - _ROWS_NAMED} more" if len(rows) > _ROWS_NAMED else ""
        raise RunFailed(
            f"the {what} of step {self._state.step + 1} is {value}; rows {', '.join(rows[:_ROWS_NAMED])}{more}. "
            "Look at these rows, or try a smaller train.lr."
        )

    def _validated(self, validate: Callable[[], Validation]) -> Validation:
        with mode(self.policy.model, training=False):
            now = validate()
        if not math.isfinite(now.loss):
            raise RunFailed(f"the validation loss after step {self._state.step} is {now.loss}. Try a smaller train.lr.")
        self._state.note_validation(now, by_answers=self.settings.weights == "answers")
        return now

    def _validation_due(self) -> bool:
        return validation_due(self.settings, self._state.step)

    def _serving_step(self) -> int:
        state = self._state
        return state.step if self.settings.weights == "last" else state.best_step or state.step

    def _out_of_patience(self) -> bool:
        return 0 < self.settings.patience <= self._state.worse

    def _save_due(self) -> bool:
        """At the best validation, at the end, by the clock, at every tenth of the run, and by the epoch where asked for."""
        step = self._state.step
        ends = self._out_of_patience()
        waited = time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds
        epoch_ends = self.settings.checkpoint_epochs and step % self.steps_per_epoch == 0
        return bool(ends or waited or epoch_ends or step == self._state.best_step or save_due(self.settings, step))

    def _progress(self, entry: Entry, clock: Clock) -> Progress:
        return Progress(
            entry.step, self.num_steps, entry.step / self.steps_per_epoch, entry.loss, entry.validation, entry.lr,
            clock.tokens_per_second, memory_bytes(),
        )  # fmt: skip


def is_finite(tensor: torch.Tensor) -> bool:
    """Tell whether every number is finite: least and greatest pass a NaN on, and need no copy as large as the tensor."""
    return not tensor.numel() or all(map(math.isfinite, torch.aminmax(tensor)))
