"""Whether the layers of a training are compiled, where the user left that open: a long one on a CPU, after a trial.

torch.compile fuses norms, gates and rotations, so that a step is some percent quicker; before the first step it takes as long as
many steps do. So it pays in a long training alone. There the plan compiles the layers and holds what they give on the first
rows to what the layers give as they are written: the gradients have to be the same within rounding, and the compiled layers no slower.
The choice is stored before the first step, so a resumed training computes as it began.
"""

import shutil
from collections.abc import Sequence
from typing import NamedTuple

import torch

from luthier.config.load import with_values
from luthier.config.settings import TrainSettings
from luthier.data.loader import Batch, SequenceStore
from luthier.kernels.native_build import compiler
from luthier.recipes.job import Job
from luthier.recipes.pace import Pace, foretold_seconds, measured, measured_again, some_batches
from luthier.train.policy import Policy, mode
from luthier.train.world import world

# What `python bench/step.py` measured on two cores of an AMD EPYC when this was decided (docs/decisions/0009-compiled-layers.md): the lesser gain, the longer first step.
GAIN = 0.06
COMPILING_SECONDS = 50.0
# How many times the seconds that compiling takes must be saved: neither figure is known for the machine and model at hand.
MARGIN = 3.0
# What the compiler takes beside the training while it works.
COMPILER_BYTES = 1 << 30
LEAST_SPEED = 1.0
# Compiled layers of other models may be right as well; these are held to the layers as they are written, in tests.
PROVEN = frozenset({"llama"})
_LEFT = "layers are not compiled"
_BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 1e-1}


class Choice(NamedTuple):
    """Whether layers are compiled, and the words that say so."""

    compiled: bool
    words: str


def choice(seconds: float, why_not: str) -> Choice:
    """Choose for a training that takes `seconds` as it is written; `why_not` says why its layers may not be compiled, if so."""
    if GAIN * seconds < MARGIN * COMPILING_SECONDS:
        enough = MARGIN * COMPILING_SECONDS / GAIN
        return Choice(False, f"{_LEFT}, which pays from about {enough / 60:.0f} min on")
    if why_not:
        return Choice(False, f"{_LEFT}: {why_not}")
    saved = GAIN * seconds - COMPILING_SECONDS
    return Choice(True, f"layers are compiled, which saves about {saved / 60:.0f} min")


def refusal(train: TrainSettings, model_type: str, *, on_cpu: bool, processes: int, spare_bytes: int) -> str:
    """Say why the layers of a training are left as they are, however long it takes; empty where they may be compiled.

    `spare_bytes` are those that the training leaves free.
    """
    if not on_cpu:
        return "compiled trees have not been tried on a GPU"
    if processes > 1:
        return "several processes train together"
    if train.layout not in ("packed", "tree"):
        return f"it is not proven for rows that lie {train.layout}"
    if train.gradient_checkpointing:
        return "it is not proven where activations are computed again (train.gradient_checkpointing)"
    if train.method == "lora" and train.lora.dropout:
        return "what train.lora.dropout leaves out cannot be compared"
    if model_type not in PROVEN:
        return f"it is proven for {', '.join(sorted(PROVEN))}, not for {model_type}"
    if spare_bytes < COMPILER_BYTES:
        return f"the training leaves less than {COMPILER_BYTES / 2**30:.0f} GiB of memory free"
    if shutil.which(compiler()) is None:
        return f"there is no C++ compiler on this machine ({compiler()})"
    return ""


def refusal_of(job: Job, spare_bytes: int) -> str:
    """Say why the layers of this job's training are left as they are."""
    model_type = job.model_config.get_text_config().model_type
    on_cpu = job.device == "cpu"
    return refusal(job.settings.train, model_type, on_cpu=on_cpu, processes=world().size, spare_bytes=spare_bytes)


def resolve_compile(job: Job, store: SequenceStore, num_trained: int, spare_bytes: int) -> tuple[Pace, str]:
    """Choose `train.compile` where it is open and write it back; return the pace of the training as it will be, and words for the plan."""
    batches = some_batches(job, store)
    pace = measured(job, batches, num_trained)
    if job.settings.train.compile is not None:
        return pace, ""
    chosen = choice(foretold_seconds(job, store, pace), refusal_of(job, spare_bytes))
    if chosen.compiled:
        job.voice.say("compiling the layers for a trial, since the training is long")
        pace, why_not = _tried(job, batches, pace)
        chosen = Choice(False, f"{_LEFT}: {why_not}") if why_not else chosen
    job.resolve({"train.compile": chosen.compiled})
    return pace, f"; {chosen.words}"


def _tried(job: Job, batches: Sequence[Batch], plain: Pace) -> tuple[Pace, str]:
    """Compile the layers and compare; return the pace of the layers that will train, and why they are not the compiled ones.

    The job's settings say afterwards what was chosen; they are not written down here.
    """
    before = job.settings
    truth = _gradients(job.policy, batches[0])
    job.forget_policy()
    job.settings = with_values(before, {"train.compile": True})
    try:
        why_not = _disagreement(_gradients(job.policy, batches[0]), truth, _BOUNDS[job.dtype])
        with mode(job.policy.model, training=True):  # as in training, for another mode would be compiled anew
            pace = plain if why_not else measured_again(job, batches, plain)
        if pace.tokens_per_second < LEAST_SPEED * plain.tokens_per_second:
            why_not = f"in a trial they made {pace.tokens_per_second:,.0f} tokens/s, and {plain.tokens_per_second:,.0f} as they are"
    except RuntimeError as error:
        # What torch.compile raises has no public name; whatever it is, the layers as they are do without it.
        pace, why_not = plain, f"torch.compile failed: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    if why_not:
        job.settings = before
        job.forget_policy()
        return plain, why_not
    return pace, ""


def _gradients(policy: Policy, batch: Batch) -> dict[str, torch.Tensor]:
    with mode(policy.model, training=True):
        policy.weighted_nll(batch).backward()
    found = {name: weight.grad for name, weight in policy.model.named_parameters() if weight.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return found


def _disagreement(ours: dict[str, torch.Tensor], truth: dict[str, torch.Tensor], bound: float) -> str:
    """Say how far gradients are apart where that is too far: the norm of the difference over all weights, as a share of the true norm."""
    if ours.keys() != truth.keys():
        return "they have gradients for other weights"
    apart = sum((ours[name].float() - true.float()).square().sum().item() for name, true in truth.items())
    norm = sum(true.float().square().sum().item() for true in truth.values())
    if apart <= bound**2 * norm:  # not so where one is not a number
        return ""
    return f"their gradients differ by {(apart / norm) ** 0.5 if norm else apart:.2g} of the norm (bound {bound:g})"
