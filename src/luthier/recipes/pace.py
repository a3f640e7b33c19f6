"""How fast a training goes, measured for a moment on its own first rows.

A run measures the model that it trains. `luthier plan` has no weights at hand and may plan for a model that does not
fit: it measures a few layers with random weights, and some more, and goes on in a straight line to all of them.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from luthier.config.settings import TrainSettings
from luthier.core.hardware import hardware
from luthier.core.types import JsonObject
from luthier.data.loader import Batch, SequenceStore, micro_batches
from luthier.data.replay import mixed_steps
from luthier.models.load import random_model
from luthier.models.sizes import AVERAGES
from luthier.recipes.fitting import shape
from luthier.recipes.job import Job
from luthier.recipes.time_left import Between
from luthier.train import checkpoint
from luthier.train.optim import MasterAdamW
from luthier.train.policy import Policy

# So many micro-batches are timed, behind one that warms up: a quarter as many as there are steps, within these bounds and about two seconds.
_FEWEST, _MOST, _SECONDS = 2, 8, 2.0
_FEW_LAYERS = 2
# The more layers a plan times, the less the straight line magnifies what a moment adds: as many as take so long, and so many bytes of weights.
_MORE_SECONDS, _MORE_BYTES = 30.0, 1 << 30
# An update is timed with at most so many weights, more than caches hold, and a checkpoint in pieces of so many: at most so
# many pieces, which are about two gigabytes, for so long, and on a quarter of the free disk.
_MOST_WEIGHTS, _MOST_PIECES, _SAVING_SECONDS = 1 << 23, 24, 5.0


@dataclass(frozen=True)
class Pace:
    """Tokens of rows a second in training and in validation, the seconds of one update of all trained weights, and of one checkpoint."""

    tokens_per_second: float
    scored_per_second: float
    update_seconds: float
    save_seconds: float

    def seconds(self, train: TrainSettings, tokens: int, held_out: int) -> float:
        """Return the seconds of a training on so many tokens, with its checkpoints, and its validations on `held_out` tokens each."""
        assert train.steps
        between = Between(held_out / self.scored_per_second, self.save_seconds).seconds(train, 0, train.steps)
        steps = tokens / self.tokens_per_second + train.steps * self.update_seconds
        return steps + between + self.save_seconds  # one checkpoint before the first step

    def as_json(self) -> JsonObject:
        """Return the figures for a file."""
        return {
            "tokens_per_second": self.tokens_per_second, "validation_tokens_per_second": self.scored_per_second,
            "update_seconds": self.update_seconds, "save_seconds": self.save_seconds,
        }  # fmt: skip


def first_epoch(job: Job, store: SequenceStore) -> list[np.ndarray]:
    """Return the rows of each step of the first epoch."""
    train = job.settings.train
    assert train.batch_tokens and train.layout
    return mixed_steps(store, train.batch_tokens, job.settings.seed, 0, share=train.replay, layout=train.layout)


def tokens_of(store: SequenceStore, steps: Sequence[np.ndarray]) -> int:
    """Return the tokens of the rows of these steps, replayed ones as often as they come."""
    return sum(int(store.lengths[step].sum()) for step in steps)


def first_batches(job: Job, store: SequenceStore) -> list[Batch]:
    """Return the micro-batches of the first step."""
    train = job.settings.train
    assert train.micro_tokens and train.layout
    return list(micro_batches(store, first_epoch(job, store)[0], train.micro_tokens, train.layout))


def some_batches(job: Job, store: SequenceStore, *, times: int = 1) -> list[Batch]:
    """Return the first micro-batches of the training, of several steps where each has few: enough to time so many models."""
    train = job.settings.train
    assert train.micro_tokens and train.layout
    all_batches = (
        batch
        for step in first_epoch(job, store)
        for batch in micro_batches(store, step, train.micro_tokens, train.layout)
    )
    assert train.steps
    return list(islice(all_batches, times * (1 + min(max(_FEWEST, train.steps // 4), _MOST))))


def foretold_tokens(job: Job, store: SequenceStore) -> int:
    """Return the tokens of rows that the whole training takes."""
    steps, epoch = job.settings.train.steps, first_epoch(job, store)
    assert steps
    return int(tokens_of(store, epoch) * steps / len(epoch))


def foretold_seconds(job: Job, store: SequenceStore, pace: Pace) -> float:
    """Return the seconds of the whole training at this pace, with its validations and checkpoints."""
    held_out = job.rendered("validation").store.num_tokens
    return pace.seconds(job.settings.train, foretold_tokens(job, store), held_out)


def measured(job: Job, batches: Sequence[Batch], num_trained: int) -> Pace:
    """Time some micro-batches forward and backward, and forward alone, an update, and a checkpoint."""
    trained, scored = _timed(job.policy, batches)
    return Pace(1 / trained, 1 / scored, update_seconds(job, num_trained), save_seconds(job, num_trained))


def measured_again(job: Job, batches: Sequence[Batch], before: Pace) -> Pace:
    """Time the job's policy as it is now; updates and checkpoints take what they took before."""
    trained, scored = _timed(job.policy, batches)
    return replace(before, tokens_per_second=1 / trained, scored_per_second=1 / scored)


def calibrated(job: Job, batches: Sequence[Batch], num_trained: int) -> Pace:
    """Time a few layers and some more, and go on in a straight line to all layers of the model.

    Either sees batches of its own, where there are enough: on a CPU shapes that were seen before take less time, also in
    another model.
    """
    half = len(batches) // 2
    first, second = (batches[:half], batches[half:]) if half > _FEWEST else (batches, batches)
    whole = job.model_config.get_text_config().num_hidden_layers
    if job.settings.model.init is not None:
        whole = job.settings.model.init.num_hidden_layers
    few = min(_FEW_LAYERS, whole)
    started = time.monotonic()
    timed_few = np.array(_timed(job.policy_of(_shallow(job, few)), first))
    bytes_a_layer = shape(job).num_weights * torch.finfo(job.dtype).bits / 8 / whole
    more = more_layers(few, whole, time.monotonic() - started, bytes_a_layer)
    slope = np.zeros(2)
    if more > few:
        slope = (np.array(_timed(job.policy_of(_shallow(job, more)), second)) - timed_few) / (more - few)
    trained, scored = timed_few + np.maximum(slope, 0) * (whole - few)
    return Pace(1 / float(trained), 1 / float(scored), update_seconds(job, num_trained), save_seconds(job, num_trained))


def more_layers(few: int, whole: int, seconds: float, bytes_a_layer: float) -> int:
    """Return how many of a model's layers can be timed too, where a few of them took so many seconds."""
    most = min(few * _MORE_SECONDS / seconds, _MORE_BYTES / bytes_a_layer)
    return min(whole, max(3 * few, int(most)))


def update_seconds(job: Job, num_trained: int) -> float:
    """Return the seconds of one update of all trained weights, from one of at most eight million."""
    num = min(num_trained, _MOST_WEIGHTS)
    sizes = sizes_timed(job, num, num_trained)
    weights = {
        str(number): torch.nn.Parameter(torch.zeros(1, size, dtype=torch.bfloat16, device=job.device))
        for number, size in enumerate(sizes)
    }
    optimizer = MasterAdamW(weights, job.settings.train)

    def update() -> None:
        for weight in weights.values():
            weight.grad = torch.ones_like(weight)
        optimizer.accumulate()
        optimizer.clip_gradients()
        optimizer.step(1e-6)

    return _seconds(update) * num_trained / num


def save_seconds(job: Job, num_trained: int) -> float:
    """Return the seconds of one checkpoint of all trained weights, from pieces of at most eight million that are written where the run lies.

    A disk takes the first gigabyte faster than what follows, and old checkpoints are deleted: so more are written than are
    kept, piece by piece, as far as time allows, and the second half of the pieces counts.
    """
    train, num = job.settings.train, min(num_trained, _MOST_WEIGHTS)
    kept = {
        f"{number}.{part}": torch.zeros(int(size * (4 + AVERAGES[train.optimizer]) / 3), dtype=torch.uint8)
        for number, size in enumerate(sizes_timed(job, num, num_trained))
        for part in ("master", "mean", "square")
    }
    pieces_each = -(-num_trained // num)
    room = hardware(job.run.path).free_disk_bytes // 4 // sum(tensor.nbytes for tensor in kept.values())
    num_pieces = max(1, min((train.keep + 3) * pieces_each, _MOST_PIECES, room))
    pieces: list[float] = []
    with TemporaryDirectory(dir=job.run.path, prefix=".tmp-") as folder:
        while len(pieces) < num_pieces and sum(pieces) < _SAVING_SECONDS:
            start = time.monotonic()
            checkpoint.save(Path(folder), len(pieces), kept, {})
            checkpoint.retain(Path(folder), train.keep * pieces_each, None)
            pieces.append(time.monotonic() - start)
    counted = pieces[len(pieces) // 2 :]
    return sum(counted) / len(counted) * num_trained / num


def sizes_timed(job: Job, num: int, num_trained: int) -> list[int]:
    """Return the sizes of tensors that hold about `num` weights and are as large as the trained ones are on average: many small ones take another time than a large one.

    A layer has seven matrices, and LoRA two for each.
    """
    tensors_a_layer = 7 if job.settings.train.method == "full" else 14
    num_tensors = max(1, min(num, round(tensors_a_layer * shape(job).num_layers * num / num_trained)))
    return [num // num_tensors] * num_tensors


def _timed(policy: Policy, batches: Sequence[Batch]) -> tuple[float, float]:
    """Return the seconds a token of training on the batches behind the first, and of scoring them.

    Each is gone through once, as in training: on a CPU a batch of a new shape takes longer than one that comes again. A GPU
    has seen all shapes before, since there the first pass over one may compile.
    """

    def train(batch: Batch) -> None:
        policy.weighted_nll(batch).backward()
        policy.model.zero_grad(set_to_none=True)

    on_gpu = policy.device.type == "cuda"
    trained, scored = (_seconds_a_token(work, batches, warm_all=on_gpu) for work in (train, policy.scores))
    return trained, scored


def _seconds_a_token(work: Callable[[Batch], object], batches: Sequence[Batch], *, warm_all: bool) -> float:
    for batch in batches if warm_all else batches[:1]:
        work(batch)
    _wait_for_gpu()
    start = time.monotonic()
    num_tokens = passed = 0
    for number, batch in enumerate(batches[1:] or batches, start=1):
        work(batch)
        _wait_for_gpu()
        num_tokens, passed = num_tokens + batch.num_tokens, time.monotonic() - start
        if number >= _FEWEST and passed > _SECONDS:
            break
    return passed / num_tokens


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _seconds(work: Callable[[], None]) -> float:
    """Return the seconds of the faster of two times, after one that warms up."""
    found = []
    for _ in range(3):
        start = time.monotonic()
        work()
        _wait_for_gpu()
        found.append(time.monotonic() - start)
    return min(found[1:])


def _shallow(job: Job, layers: int) -> PreTrainedModel:
    """Make the job's model with so many layers and random weights."""
    init = job.settings.model.init
    if init is not None:
        small = init.model_copy(update={"num_hidden_layers": layers})
        return random_model(small, job.tokenizer, job.settings.seed, job.dtype, job.device)
    model = AutoModelForCausalLM.from_config(shallow_config(job.model_config, layers), dtype=job.dtype)
    return torch.nn.Module.to(model, job.device)  # type: ignore[return-value]  # to() returns the module it is called on


def shallow_config(config: PreTrainedConfig, layers: int) -> PreTrainedConfig:
    """Return a config whose model has only the first layers; settings with an entry for each layer keep as many."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    whole = text.num_hidden_layers
    for key, value in text.to_dict().items():
        if isinstance(value, list) and len(value) == whole:
            setattr(text, key, value[:layers])
    text.num_hidden_layers = layers
    return small
