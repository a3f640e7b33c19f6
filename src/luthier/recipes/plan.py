"""What will be done, what it will need, and whether the machine has it: chosen, proven and measured before training.

Everything that the user left open is chosen here and written back to config.yaml.
"""

import time
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch

from luthier.core.errors import DataError, ProofFailed, ResourceError, SettingsError
from luthier.core.hardware import hardware
from luthier.core.journal import entries
from luthier.core.rundir import write_json
from luthier.core.types import PARTS, JsonObject, Rendered
from luthier.data.ledger import Ledger
from luthier.data.loader import TREES, SequenceStore, heaviest, micro_batches, steps_of_epoch
from luthier.kernels import attention
from luthier.kernels.rates import faster_dtype
from luthier.models import adapters
from luthier.models.sizes import Shape, heap_bytes, lora_weights, shape_of, training_bytes
from luthier.recipes.job import Job, RenderedPart
from luthier.recipes.layout import batch_to_prove, heaviest_tree, resolve_layout
from luthier.train import rule
from luthier.train.clock import memory_bytes
from luthier.verdict.choose import choose_grader
from luthier.verdict.questions import questions

_MICRO_TOKENS = 8192
_TENSOR_BYTES_PER_TRAINED = 12
_STEPS_WEIGHED = 200


def plan_stage(job: Job) -> None:
    """Choose, estimate, refuse what cannot fit, prove the loss on a batch, and time two steps."""
    _check_model(job)
    write_ledger(job)
    store = job.rendered("train").store
    if store.num_trained == 0:
        raise ProofFailed("no token of the training rows would be trained; see the ledger for the reason of each row.")
    resolve_type(job)
    _resolve_training(job, store)
    resolve_layout(job, store)
    estimate = _refuse_what_cannot_fit(job, store)
    measured = _measure(job, store)
    _write_plan(job, store, estimate, measured)


def _check_model(job: Job) -> None:
    train = job.settings.train
    if job.tokenizer.chat_template is None and train.objective != "text":
        raise SettingsError(
            f"{job.folder.name} has no chat template, so its turns cannot be rendered as they are served. Use an instruction-tuned model, "
            "or train on plain text with --set train.objective=text."
        )
    if train.max_length is not None and train.max_length > job.context:
        raise SettingsError(f"train.max_length is {train.max_length}, but the model's context is {job.context} tokens.")


def write_ledger(job: Job) -> None:
    """Account for every input row: the part it went to and its tokens, or the rule that kept it out."""
    ledger = Ledger()
    rendered = {part: job.rendered(part) for part in PARTS}
    tokens = {part: _tokens_by_row(rendered[part].sequences) for part in PARTS}
    num_rows = 0
    for entry in entries(job.run.rejected):
        ledger.add(entry["id"], entry["file"], entry["line"], "dropped", rule=entry["rule"])  # type: ignore[arg-type]
        num_rows += 1
    for entry in pq.read_table(job.run.assignment).to_pylist():
        num_rows += 1
        row, part = (entry["id"], entry["file"], entry["line"]), entry["part"]
        if part is None:
            ledger.add(*row, "dropped", rule=entry["rule"])
        elif (problem := rendered[part].problems.get(entry["id"])) is not None:
            ledger.add(*row, "dropped", rule=problem.rule, cluster=str(entry["cluster"]))
        else:
            count = tokens[part][entry["id"]]
            ledger.add(
                *row, "truncated" if count.lost else part, rule="truncated" if count.lost else None, part=part, cluster=str(entry["cluster"]),
                tokens=count.tokens, trained_tokens=count.trained, lost_tokens=count.lost,
            )  # fmt: skip
    ledger.check(num_rows)
    ledger.write(job.run.ledger)
    for part in PARTS:
        _say_problems(job, part, rendered[part])
    if not rendered["train"].sequences:
        raise DataError(
            "no training row can be rendered with this model's chat template:\n  " + _first_problems(rendered["train"])
        )


@dataclass
class _Count:
    tokens: int = 0
    trained: int = 0
    lost: int = 0


def _tokens_by_row(sequences: list[Rendered]) -> dict[str, _Count]:
    counts: dict[str, _Count] = {}
    for sequence in sequences:
        count = counts.setdefault(sequence.row, _Count())
        count.tokens += len(sequence.tokens_L)
        count.trained += sequence.num_trained
        count.lost += sequence.lost_tokens
    return counts


def _say_problems(job: Job, part: str, rendered: RenderedPart) -> None:
    if rendered.problems:
        job.voice.say(
            f"  {len(rendered.problems):,} {part} rows cannot be rendered and are set aside, such as {_first_problems(rendered)}"
        )


def _first_problems(rendered: RenderedPart) -> str:
    return "\n  ".join(f"{problem.rule}: {problem.detail}" for problem in list(rendered.problems.values())[:3])


def resolve_type(job: Job) -> None:
    """Choose the type to compute in where it is open, and write it back with the model's revision and the threads."""
    values: JsonObject = {}
    if job.settings.model.dtype is None:
        dtype, rates = faster_dtype(job.device)
        values["model.dtype"] = str(dtype).removeprefix("torch.")
        job.voice.say(
            f"computing in {values['model.dtype']} ({', '.join(f'{name} {rate / 1e9:,.0f} GFLOP/s' for name, rate in rates.items())})"
        )
    if job.folder.revision is not None:
        values["model.revision"] = job.folder.revision
    if job.settings.threads is None:
        values["threads"] = torch.get_num_threads()
    job.resolve(values)


def shape(job: Job) -> Shape:
    """The base model's figures."""
    init = job.settings.model.init
    return shape_of(job.folder.config if init is None else {**init.model_dump(), "vocab_size": len(job.tokenizer)})


def _resolve_training(job: Job, store: SequenceStore) -> None:
    train, sizes = job.settings.train, shape(job)
    num_rows, num_weights = len(job.rendered("train").rows), sizes.num_weights
    method = "full" if job.settings.model.init else train.method
    mean_tokens = store.num_tokens / len(store)
    choice = rule.choose(num_weights, sizes.hidden_size, num_rows, mean_tokens, method)
    batch_tokens = train.batch_tokens or round((train.batch_rows or 0) * mean_tokens) or choice.batch_tokens
    epochs = train.epochs or choice.epochs
    steps_per_epoch = len(steps_of_epoch(store.lengths, batch_tokens, job.settings.seed, 0))
    steps = train.steps or max(1, round(epochs * steps_per_epoch))
    job.resolve({
        "train.method": choice.method, "train.lora.rank": train.lora.rank or choice.rank,
        "train.lora.alpha": train.lora.alpha or 2.0 * (train.lora.rank or choice.rank),
        "train.lr": train.lr or choice.lr * (train.lr_multiplier or 1), "train.epochs": epochs, "train.steps": steps, "train.batch_tokens": batch_tokens,
        "train.micro_tokens": train.micro_tokens or max(min(_MICRO_TOKENS, batch_tokens), int(store.lengths.max())),
        "train.max_length": train.max_length or job.context, "train.compile": bool(train.compile),
        "train.weights": train.weights or _weights_that_serve(job),
        "train.validate_every": train.validate_every or max(1, min(steps_per_epoch // 2, steps // 4)),
    })  # fmt: skip
    train = job.settings.train
    method_words = (
        "every weight" if choice.method == "full" else f"LoRA rank {train.lora.rank}, alpha {train.lora.alpha:g}"
    )
    job.voice.say(
        f"training {method_words} of {job.folder.name} ({num_weights / 1e6:,.1f}M weights): {steps:,} steps of about "
        f"{batch_tokens:,} tokens = {steps / steps_per_epoch:.1f} epochs, learning rate {train.lr:g}, {train.schedule}"
    )


def _weights_that_serve(job: Job) -> str:
    """Free text is hardly ever met to the letter, so there the loss decides; a label or an object is right or wrong."""
    answers = [question.wanted for question in questions(job.rendered("train").rows)]
    free = job.settings.train.objective == "text" or not answers or choose_grader(answers)[0] == "text"
    return "loss" if free else "answers"


def _refuse_what_cannot_fit(job: Job, store: SequenceStore) -> int:
    train, sizes = job.settings.train, shape(job)
    assert train.micro_tokens and job.settings.model.dtype and train.lora.rank
    if train.micro_tokens < store.lengths.max():
        job.resolve({"train.micro_tokens": int(store.lengths.max())})
    needed = _training_bytes(
        job, store, train.method == "full", train.micro_tokens, checkpointing=train.gradient_checkpointing
    )
    machine = hardware(job.run.path)
    free = torch.cuda.mem_get_info()[0] if job.device == "cuda" else machine.free_memory_bytes
    if needed > free:
        raise ResourceError(
            f"training needs about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; {_what_helps(job, store, free)}."
        )
    num_trained = sizes.num_weights if train.method == "full" else lora_weights(sizes, train.lora.rank)
    disk = (train.keep + 2) * num_trained * _TENSOR_BYTES_PER_TRAINED + 4 * sizes.num_weights
    if disk > machine.free_disk_bytes:
        raise ResourceError(
            f"checkpoints and package need about {disk / 2**30:.1f} GiB in {job.run.path} and {machine.free_disk_bytes / 2**30:.1f} GiB are free; "
            "choose another --out, or a smaller train.keep."
        )
    return needed if job.device == "cuda" else needed + memory_bytes()


def _training_bytes(job: Job, store: SequenceStore, full: bool, micro_tokens: int, *, checkpointing: bool) -> int:
    """What training adds to this process, with the heaviest micro-batch among the first steps to come."""
    train, sizes, on_cpu = job.settings.train, shape(job), job.device == "cpu"
    assert train.batch_tokens and train.lora.rank
    assert train.layout
    longest_kept = attention.LONGEST_SHORT.get(job.dtype, 0) if train.layout == "packed" and on_cpu else 0
    steps = _first_epoch(job, store)[:_STEPS_WEIGHED]
    if train.layout in TREES:
        positions, squares = heaviest_tree(store, steps, micro_tokens, train.layout)
    else:
        weighed = [heaviest(store.lengths[step], micro_tokens, train.layout, longest_kept) for step in steps]
        positions, squares = (max(figures) for figures in zip(*weighed, strict=True))
    dtype = str(job.dtype).removeprefix("torch.")
    living = training_bytes(
        sizes, sizes.num_weights if full else lora_weights(sizes, train.lora.rank), dtype, positions,
        checkpointing=checkpointing, score_elements=squares,
    )  # fmt: skip
    return living + (heap_bytes(sizes, dtype, positions) if on_cpu else 0)


def _what_helps(job: Job, store: SequenceStore, free: int) -> str:
    """Name the setting that makes the training fit, the one that costs least first."""
    train = job.settings.train
    longest, full = int(store.lengths.max()), train.method == "full"
    if _training_bytes(job, store, full, longest, checkpointing=train.gradient_checkpointing) <= free:
        return f"try --set train.micro_tokens={longest}, which is the longest row"
    if _training_bytes(job, store, full, longest, checkpointing=True) <= free:
        return f"try --set train.gradient_checkpointing=true --set train.micro_tokens={longest}"
    if full and _training_bytes(job, store, False, longest, checkpointing=True) <= free:
        return f"try --set train.method=lora --set train.gradient_checkpointing=true --set train.micro_tokens={longest}"
    return "no setting makes this model fit; choose a smaller one (`luthier doctor` lists those that fit), or --set train.max_length lower"


def _measure(job: Job, store: SequenceStore) -> JsonObject:
    """Prove the loss on the first rows, then time the forward and backward pass of two micro-batches."""
    policy = job.policy
    train = job.settings.train
    assert train.micro_tokens and train.layout
    indices = _first_epoch(job, store)[0]
    proof = policy.prove(batch_to_prove(store, indices, train.layout))
    batches = list(micro_batches(store, indices, train.micro_tokens, train.layout))
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        for batch in batches[:2]:
            policy.weighted_nll(batch).backward()
        seconds.append(time.monotonic() - start)
    policy.model.zero_grad(set_to_none=True)
    tokens = sum(batch.num_tokens for batch in batches[:2])
    processed = sum(batch.num_positions for batch in batches) / sum(batch.num_tokens for batch in batches)
    return {"tokens_per_second": tokens / min(seconds[1:]), "processed_per_token": round(processed, 4), **proof}


def _first_epoch(job: Job, store: SequenceStore) -> list[np.ndarray]:
    train = job.settings.train
    assert train.batch_tokens and train.layout
    return steps_of_epoch(store.lengths, train.batch_tokens, job.settings.seed, 0, store.kin_in(train.layout))


def _write_plan(job: Job, store: SequenceStore, needed: int, measured: JsonObject) -> None:
    train = job.settings.train
    assert train.steps and train.batch_tokens
    rate = float(measured["tokens_per_second"])  # type: ignore[arg-type]
    num_trained = adapters.num_trained(job.policy.model)
    steps_per_epoch = len(_first_epoch(job, store))
    per_epoch = store.num_tokens * train.steps / steps_per_epoch
    seconds = per_epoch / rate + train.steps * num_trained * 20 / 8e9
    plan: JsonObject = {
        "seconds": round(seconds, 1), "memory_bytes": needed, "steps": train.steps, "steps_per_epoch": steps_per_epoch, "tokens": int(per_epoch),
        "trained_weights": num_trained, "trained_tokens_per_epoch": store.num_trained, **measured,
    }  # fmt: skip
    write_json(job.run.plan, plan)
    job.voice.say(
        f"plan: about {duration(seconds)} of training at {rate:,.0f} tokens/s, {needed / 2**30:.1f} GiB of memory"
    )


def duration(seconds: float) -> str:
    """Write a time in minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
