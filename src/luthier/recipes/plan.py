"""What will be done, what it will need, and whether the machine has it: chosen, proven and measured before training.

Everything that the user left open is chosen here and written back to config.yaml.
"""

from collections.abc import Mapping, Sequence

import pyarrow.parquet as pq
import torch

from luthier.config.settings import LoraSettings
from luthier.core.errors import DataError, ProofFailed, ResourceError, SettingsError
from luthier.core.hardware import hardware
from luthier.core.journal import entries
from luthier.core.rundir import write_json
from luthier.core.types import PARTS, JsonObject
from luthier.data.ledger import Ledger
from luthier.data.loader import Batch, Layout, SequenceStore
from luthier.data.replay import mixed_steps
from luthier.kernels.rates import faster_dtype
from luthier.models import adapters
from luthier.models.sizes import AVERAGES, Memory
from luthier.recipes.compiling import resolve_compile
from luthier.recipes.fitting import Leeway, fit, here, shape
from luthier.recipes.general import stored
from luthier.recipes.job import Job, RenderedPart
from luthier.recipes.layout import batch_to_prove, resolve_layout
from luthier.recipes.measure import lengths_by_row
from luthier.recipes.pace import Pace, first_batches, first_epoch, foretold_seconds, foretold_tokens
from luthier.train import rule
from luthier.train.clock import memory_bytes
from luthier.train.world import world
from luthier.verdict.choose import choose_grader
from luthier.verdict.questions import questions

# About so many positions go through the model at once, with a quarter of room: half of all steps hold more tokens than the
# mean, padding counts, and a second micro-batch for the few that are left takes as long as its kernels take to be called.
_MICRO_TOKENS = 8192


def plan_stage(job: Job) -> None:
    """Choose, estimate, refuse what cannot fit, prove the loss on a batch, and time two steps."""
    check_model(job)
    write_ledger(job)
    store = job.training_store
    if job.rendered("train").store.num_trained == 0:
        raise ProofFailed("no token of the training rows would be trained; see the ledger for the reason of each row.")
    resolve_type(job)
    train = job.settings.train
    leeway = Leeway(train.micro_tokens is None, train.gradient_checkpointing is None)
    resolve_training(job, store)
    resolve_layout(job, store)
    ground = here(job)
    memory = fit(job, store, leeway, ground)
    spare_bytes = ground.free_bytes + memory_bytes() - memory.total
    num_trained = adapters.num_trained(job.policy.model)
    _refuse_small_disk(job, num_trained)
    proof = job.policy.prove(batch_to_prove(store, first_epoch(job, store)[0], layout_of(job)))
    pace, words = resolve_compile(job, store, num_trained, spare_bytes)
    _write_plan(job, store, memory, num_trained, pace, proof)
    job.voice.say(
        f"plan: about {duration(foretold_seconds(job, store, pace))} of training at {pace.tokens_per_second:,.0f} tokens/s, "
        f"{memory.total / 2**30:.1f} GiB of memory{words}"
    )


def check_model(job: Job) -> None:
    """Refuse what the model cannot be trained on."""
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
    lengths = {part: lengths_by_row(rendered[part].sequences) for part in PARTS}
    num_rows = 0
    for entry in entries(job.run.rejected):
        ledger.add(entry["id"], entry["file"], entry["line"], "dropped", rule=entry["rule"])  # type: ignore[arg-type]  # entries were written from a record of these types
        num_rows += 1
    for entry in pq.read_table(job.run.assignment).to_pylist():
        num_rows += 1
        row, part = (entry["id"], entry["file"], entry["line"]), entry["part"]
        if part is None:
            ledger.add(*row, "dropped", rule=entry["rule"])
        elif (problem := rendered[part].problems.get(entry["id"])) is not None:
            ledger.add(*row, "dropped", rule=problem.rule, cluster=str(entry["cluster"]))
        else:
            length = lengths[part][entry["id"]]
            ledger.add(
                *row, "truncated" if length.lost else part, rule="truncated" if length.lost else None, part=part, cluster=str(entry["cluster"]),
                tokens=length.tokens, trained_tokens=length.trained, lost_tokens=length.lost,
            )  # fmt: skip
    num_rows += _enter_replayed(job, ledger)
    ledger.check(num_rows)
    ledger.write(job.run.ledger)
    for part in PARTS:
        _say_problems(job, part, rendered[part])
    if not rendered["train"].sequences:
        raise DataError(
            "no training row can be rendered with this model's chat template:\n  " + _first_problems(rendered["train"])
        )


def _enter_replayed(job: Job, ledger: Ledger) -> int:
    """Enter the general rows that training replays, and return how many they are."""
    lengths, part = lengths_by_row(job.replayed.sequences), job.replayed
    for row in stored(job, "replay") if job.settings.train.replay else ():
        if (problem := part.problems.get(row.id)) is not None:
            ledger.add(row.id, row.file, row.line, "dropped", rule=problem.rule)
            continue
        length = lengths[row.id]
        ledger.add(
            row.id, row.file, row.line, "replay", tokens=length.tokens, trained_tokens=length.trained, lost_tokens=length.lost,
        )  # fmt: skip
    return len(part.rows) + len(part.problems)


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


def resolve_training(job: Job, store: SequenceStore) -> None:
    """Choose method, rate, steps and batch where they are open, and write them back."""
    train, sizes = job.settings.train, shape(job)
    num_rows, num_weights = len(job.rendered("train").rows), sizes.num_weights
    method = "full" if job.settings.model.init else train.method
    own = job.rendered("train").store
    mean_tokens = own.num_tokens / len(own)
    choice = rule.choose(num_weights, sizes.hidden_size, num_rows, mean_tokens, method)
    if method is None and choice.method == "full" and train.lora != LoraSettings():
        raise SettingsError(
            f"train.lora is set, but train.method is not, and all {num_weights / 1e6:,.1f}M weights of {job.folder.name} would be trained, as those "
            "of every model that is so small. Add --set train.method=lora, or leave train.lora out."
        )
    batch_tokens = train.batch_tokens or round((train.batch_rows or 0) * mean_tokens) or choice.batch_tokens
    steps_per_epoch = len(mixed_steps(store, batch_tokens, job.settings.seed, 0, share=train.replay))
    steps = train.steps or max(1, round((train.epochs or choice.epochs) * steps_per_epoch))
    epochs = train.epochs or (round(steps / steps_per_epoch, 4) if train.steps else choice.epochs)
    job.resolve({
        "train.method": choice.method, "train.lora.rank": train.lora.rank or choice.rank,
        "train.lora.alpha": train.lora.alpha or 2.0 * (train.lora.rank or choice.rank),
        "train.lr": train.lr or choice.lr * (train.lr_multiplier or 1), "train.epochs": epochs, "train.steps": steps, "train.batch_tokens": batch_tokens,
        "train.micro_tokens": train.micro_tokens or max(_room(-(-batch_tokens // world().size)), int(store.lengths.max())),
        "train.max_length": train.max_length or job.context,
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


def _room(step_tokens: int) -> int:
    """Return the positions of a micro-batch where steps hold so many tokens on average and are to be cut into few of like size."""
    part = -(-step_tokens // -(-step_tokens // _MICRO_TOKENS))
    return part + part // 4


def _weights_that_serve(job: Job) -> str:
    """Free text is hardly ever met to the letter, so there the loss decides; a label or an object is right or wrong."""
    answers = [question.wanted for question in questions(job.rendered("train").rows)]
    free = job.settings.train.objective == "text" or not answers or choose_grader(answers)[0] == "text"
    return "loss" if free else "answers"


def _refuse_small_disk(job: Job, num_trained: int) -> None:
    disk, free = disk_bytes(job, num_trained), hardware(job.run.path).free_disk_bytes
    if disk > free:
        raise ResourceError(
            f"checkpoints and package need about {disk / 2**30:.1f} GiB in {job.run.path} and {free / 2**30:.1f} GiB are free; "
            "choose another --out, or a smaller train.keep."
        )


def disk_bytes(job: Job, num_trained: int) -> int:
    """Return what checkpoints and package take."""
    train = job.settings.train
    trained = 4 + AVERAGES[train.optimizer]
    return int((train.keep + 2) * num_trained * trained) + 4 * shape(job).num_weights


def layout_of(job: Job) -> Layout:
    """The layout, once chosen."""
    assert job.settings.train.layout
    return job.settings.train.layout


def _write_plan(
    job: Job, store: SequenceStore, memory: Memory, num_trained: int, pace: Pace, proof: Mapping[str, float]
) -> None:
    train = job.settings.train
    plan: JsonObject = {
        "seconds": round(foretold_seconds(job, store, pace), 1), "memory_bytes": memory.total, "memory": memory._asdict(), "steps": train.steps,
        "steps_per_epoch": len(first_epoch(job, store)), "tokens": foretold_tokens(job, store), "trained_weights": num_trained,
        "trained_tokens_per_epoch": job.rendered("train").store.num_trained, "processed_per_token": processed_per_token(first_batches(job, store)),
        **pace.as_json(), **proof,
    }  # fmt: skip
    write_json(job.run.plan, plan)


def processed_per_token(batches: Sequence[Batch]) -> float:
    """Return how many tokens are computed for each token of the rows, padding included."""
    return round(sum(batch.num_positions for batch in batches) / sum(batch.num_tokens for batch in batches), 4)


def duration(seconds: float) -> str:
    """Write seconds as a person reads them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
