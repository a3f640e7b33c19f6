"""The training loop.

It knows batches, an objective and a folder. Everything that must repeat exactly goes to the
metrics journal (floats as hex); what cannot, such as seconds, to the timings journal. Saved state
is integers and tensors only: the order of rows and all noise are counted from (seed, step).
"""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import numpy as np
import psutil
import torch

from luthier.config.settings import TrainSettings
from luthier.core.errors import RunFailed, RunFolderError, Stopped
from luthier.core.hashing import derived_seed
from luthier.core.journal import Journal, cut
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject
from luthier.data.loader import Batch, SequenceStore, micro_batches, steps_of_epoch
from luthier.train import checkpoint
from luthier.train.optim import MasterAdamW
from luthier.train.policy import Policy
from luthier.train.schedule import learning_rate


class Objective(Protocol):
    """What the loop asks of an objective; see `train/objectives/`."""

    rendering: str

    def count(self, batch: Batch) -> float: ...

    def loss(self, policy: Policy, batch: Batch) -> torch.Tensor: ...


@dataclass(frozen=True)
class Progress:
    """What a watcher is told after every step; `seconds_left` is None until it can be known."""

    step: int
    num_steps: int
    epoch: float
    loss: float
    validation_loss: float | None
    lr: float
    tokens_per_second: float
    seconds_left: float | None
    memory_bytes: int


@dataclass(frozen=True)
class Outcome:
    """How training ended: the step and loss of the best validation, and why it stopped."""

    steps: int
    best_step: int
    best_loss: float
    stopped_early: bool
    tokens: int
    seconds: float
    peak_memory_bytes: int


@dataclass
class _State:
    """All that a checkpoint holds beside tensors."""

    step: int = 0
    tokens: int = 0
    best_step: int = 0
    best_loss: float = float("inf")
    worse: int = 0
    seconds: float = 0.0

    def as_json(self) -> JsonObject:
        best_loss = None if self.best_loss == float("inf") else self.best_loss.hex()
        return {**vars(self), "best_loss": best_loss, "seconds": round(self.seconds, 3)}

    @staticmethod
    def from_json(state: JsonObject) -> "_State":
        known = {key: state[key] for key in vars(_State())}
        best_loss = known["best_loss"]
        known["best_loss"] = float("inf") if best_loss is None else float.fromhex(str(best_loss))
        return _State(**known)  # type: ignore[arg-type]


class Trainer:
    """One training: what is trained, on what, and where its state is kept."""

    def __init__(
        self, policy: Policy, objective: Objective, store: SequenceStore, settings: TrainSettings, seed: int, run: RunDir
    ) -> None:
        assert settings.lr and settings.steps and settings.batch_tokens and settings.micro_tokens and settings.layout
        self.policy, self.objective, self.store, self.settings, self.seed, self.run = policy, objective, store, settings, seed, run
        trained = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        self.optimizer = MasterAdamW(trained, settings)
        self.steps_per_epoch = len(steps_of_epoch(store.lengths, settings.batch_tokens, seed, 0))
        self._state = _State()
        self._signal: int | None = None

    def train(
        self, fingerprint: JsonObject, validate: Callable[[], float] | None, watch: Callable[[Progress], None]
    ) -> Outcome:
        """Train to the end, from the newest checkpoint if there is one.

        `validate` returns the mean loss on held-out rows. Raises RunFailed on a loss that is not
        finite, naming step and rows; Stopped after SIGINT or SIGTERM, once everything is saved.
        """
        self._restore(fingerprint)
        state, num_steps = self._state, self.settings.steps
        assert num_steps is not None
        clock = _Clock(state.seconds, num_steps)
        due_every = max(1, num_steps // 10)
        with Journal(self.run.metrics) as metrics, Journal(self.run.timings) as timings, self._signals():
            self._save(fingerprint, metrics)
            saved = time.monotonic()
            for indices in self._steps_from(state.step):
                entry = self._step(indices)
                clock.tick(entry.tokens)
                stop_early = False
                if validate is not None and self._validation_due(state.step):
                    entry.validation_loss = validate()
                    stop_early = self._judge(entry.validation_loss)
                metrics.write(entry.as_json())
                timings.write({"step": state.step, "seconds": round(clock.last, 4), "memory_bytes": memory_bytes()})
                state.seconds = clock.total
                watch(self._progress(entry, clock))
                improved = state.best_step == state.step
                due = time.monotonic() - saved >= self.settings.checkpoint_seconds or state.step % due_every == 0
                if improved or due or stop_early or state.step == num_steps or self._signal:
                    self._save(fingerprint, metrics)
                    saved = time.monotonic()
                if stop_early:
                    break
                if self._signal and state.step < num_steps:
                    raise Stopped(self._signal, f"stopped after step {state.step} of {num_steps}; everything is saved.")
        return Outcome(
            steps=state.step, best_step=state.best_step or state.step, best_loss=state.best_loss,
            stopped_early=state.step < num_steps, tokens=state.tokens, seconds=clock.total, peak_memory_bytes=peak_memory_bytes(),
        )  # fmt: skip

    def load_step(self, step: int) -> None:
        """Put the weights of the checkpoint at `step` into the model."""
        self.optimizer.load(checkpoint.load(self.run.checkpoints / f"{step:06d}").tensors)

    def _restore(self, fingerprint: JsonObject) -> None:
        checkpoint.clean(self.run.checkpoints)
        found, complaints = checkpoint.newest(self.run.checkpoints)
        for complaint in complaints:
            self.run.event("warn", detail=complaint)
        if found is None:
            cut(self.run.metrics, 0)
            return
        _refuse_drift(found.state["fingerprint"], fingerprint)  # type: ignore[arg-type]
        self.optimizer.load(found.tensors)
        self._state = _State.from_json(found.state)
        cut(self.run.metrics, int(found.state["metrics_offset"]))  # type: ignore[arg-type]
        self.run.event("resumed", step=found.step)

    def _save(self, fingerprint: JsonObject, metrics: Journal) -> None:
        metrics.sync()
        state = self._state.as_json() | {"metrics_offset": metrics.offset, "fingerprint": fingerprint}
        checkpoint.save(self.run.checkpoints, self._state.step, self.optimizer.tensors(), state)
        checkpoint.retain(self.run.checkpoints, self.settings.keep, self._state.best_step or None)

    def _steps_from(self, step: int) -> Iterator[np.ndarray]:
        """Yield the rows of every step from `step` on, epoch after epoch, to the last."""
        assert self.settings.steps and self.settings.batch_tokens
        passed = 0
        epoch = 0
        while passed < self.settings.steps:
            steps = steps_of_epoch(self.store.lengths, self.settings.batch_tokens, self.seed, epoch)
            for indices in steps[: self.settings.steps - passed]:
                if passed >= step:
                    yield indices
                passed += 1
            epoch += 1

    def _step(self, indices: np.ndarray) -> "_Entry":
        settings, state = self.settings, self._state
        assert settings.micro_tokens and settings.layout and settings.lr and settings.steps
        torch.manual_seed(derived_seed(self.seed, "step", state.step))
        micro = list(micro_batches(self.store, indices, settings.micro_tokens, settings.layout))
        count = sum(self.objective.count(batch) for batch in micro)
        total = 0.0
        for batch in micro:
            loss = self.objective.loss(self.policy, batch)
            value = loss.item()
            if not np.isfinite(value):
                raise RunFailed(f"the loss of step {state.step + 1} is {value}; rows {', '.join(batch.rows[:20])}. Try a smaller train.lr.")
            (loss / count).backward()
            self.optimizer.accumulate()
            total += value
        lr = learning_rate(settings, settings.lr, state.step, settings.steps)
        norm = self.optimizer.step(lr)
        if not np.isfinite(norm):
            raise RunFailed(f"the gradient of step {state.step + 1} is not finite; rows {', '.join(micro[0].rows[:20])}. Try a smaller train.lr.")
        tokens = sum(batch.num_tokens for batch in micro)
        state.step += 1
        state.tokens += tokens
        return _Entry(state.step, total / count, tokens, int(count), lr, norm)

    def _validation_due(self, step: int) -> bool:
        every = self.settings.validate_every
        return step == self.settings.steps or (every is not None and step % every == 0)

    def _judge(self, validation_loss: float) -> bool:
        """Note the best validation; return whether patience is at its end."""
        state = self._state
        if validation_loss < state.best_loss:
            state.best_loss, state.best_step, state.worse = validation_loss, state.step, 0
        else:
            state.worse += 1
        return 0 < self.settings.patience <= state.worse

    def _progress(self, entry: "_Entry", clock: "_Clock") -> Progress:
        assert self.settings.steps
        return Progress(
            entry.step, self.settings.steps, entry.step / self.steps_per_epoch, entry.loss, entry.validation_loss, entry.lr,
            clock.tokens_per_second, clock.seconds_left(entry.step), memory_bytes(),
        )  # fmt: skip

    def _signals(self) -> "_Signals":
        return _Signals(self)

    def note_signal(self, number: int) -> None:
        """Ask the loop to save and stop after the step it is in."""
        self._signal = number


@dataclass
class _Entry:
    """One line of the metrics journal."""

    step: int
    loss: float
    tokens: int
    trained: int
    lr: float
    norm: float
    validation_loss: float | None = None

    def as_json(self) -> JsonObject:
        line: JsonObject = {
            "step": self.step, "loss": self.loss.hex(), "tokens": self.tokens, "trained": self.trained,
            "lr": self.lr.hex(), "norm": self.norm.hex(),
        }  # fmt: skip
        if self.validation_loss is not None:
            line["validation_loss"] = self.validation_loss.hex()
        return line


class _Clock:
    """Seconds of this run, over all its processes, and how many are left."""

    def __init__(self, before: float, num_steps: int) -> None:
        self._before, self._num_steps = before, num_steps
        self._start = self._then = time.monotonic()
        self._steps = self._tokens = 0
        self.last = 0.0

    @property
    def total(self) -> float:
        return self._before + time.monotonic() - self._start

    @property
    def tokens_per_second(self) -> float:
        return self._tokens / max(1e-9, time.monotonic() - self._start)

    def tick(self, tokens: int) -> None:
        now = time.monotonic()
        self.last, self._then = now - self._then, now
        self._steps += 1
        self._tokens += tokens

    def seconds_left(self, step: int) -> float | None:
        if self._steps < 3:
            return None
        return (time.monotonic() - self._start) / self._steps * (self._num_steps - step)


class _Signals:
    """Turn the first SIGINT or SIGTERM into a request to save and stop; a second one acts at once."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever started the thread stops it
                return

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._trainer.note_signal(number)
        self.__exit__()


def memory_bytes() -> int:
    """The memory of this process now, in bytes; of the GPU where the model lies on one."""
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        return torch.cuda.memory_allocated()
    return psutil.Process().memory_info().rss


def peak_memory_bytes() -> int:
    """The most memory this process has held, in bytes."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _refuse_drift(saved: JsonObject, now: JsonObject) -> None:
    changed = [f"{key}: {saved.get(key)!r} then, {now.get(key)!r} now" for key in sorted({*saved, *now}) if saved.get(key) != now.get(key)]
    if changed:
        raise RunFolderError(
            "this run cannot go on exactly where it stopped, because something that it depends on has changed:\n  "
            + "\n  ".join(changed)
            + "\nRestore it, or start a new run."
        )
