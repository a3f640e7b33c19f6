"""What a training would take, here and on named GPUs, before anything is downloaded, trained or kept.

The rows are read, split and rendered as `luthier run` does it, in a folder for the time being, and the same rules choose what
is open. Of the model only config and tokenizer are needed. The seconds of this machine are measured on a few layers
with random weights; those of a GPU are counted from published figures and say so.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from luthier.compat.allocation import bound_kernel_cache
from luthier.config.load import with_values
from luthier.config.settings import Settings
from luthier.core.accelerators import ACCELERATORS, Accelerator, accelerator
from luthier.core.errors import DataError, SettingsError
from luthier.core.hardware import hardware
from luthier.core.rundir import create
from luthier.core.types import JsonObject
from luthier.data.loader import Batch, SequenceStore
from luthier.generate.engine import rows_at_once
from luthier.kernels import tree_attention
from luthier.models.flops import Work, step_flops
from luthier.models.sizes import kv_bytes, packed_bytes
from luthier.recipes.compiling import Choice, choice, refusal_of
from luthier.recipes.cross_fit import deal_into_folds
from luthier.recipes.fitting import SMALLER, Ground, Leeway, Way, Weigher, here, layout_under, shape
from luthier.recipes.general import general_rows
from luthier.recipes.job import Job
from luthier.recipes.layout import resolve_layout
from luthier.recipes.pace import Pace, calibrated, first_batches, first_epoch, some_batches, tokens_of
from luthier.recipes.plan import check_model, disk_bytes, processed_per_token, resolve_training, resolve_type
from luthier.recipes.prepare import Source, read_stage, split_stage
from luthier.recipes.voice import Voice
from luthier.train.clock import memory_bytes

HERE = "this machine"
# What a training reaches of a GPU's published rate, and what it may use of its memory beside driver and kernels.
# Neither is measured: an assumption, which the result names.
UTILIZATION = 0.4
USABLE = 0.92


class Place(NamedTuple):
    """A machine to plan for: its figures where it is not this one, and what an hour of it costs."""

    name: str
    gpu: Accelerator | None
    price: float | None


def plan(
    source: Source | None, settings: Settings, gpus: Sequence[str], price: float | None, voice: Voice
) -> JsonObject:
    """Return what training on these rows would take: bytes, tokens, operations, seconds, money, and what makes it fit.

    `gpus` are names, with a price for the hour as `h100=2.5`; all that are known where none is given. `price` is that of
    every machine without one of its own.
    """
    if source is None and settings.data.path is None:
        raise DataError("there is no data: give a file, folder or glob.")
    places = [Place(HERE, None, price), *(_place(name, price) for name in gpus or ACCELERATORS)]
    bound_kernel_cache()
    with TemporaryDirectory(prefix="luthier-plan-") as folder:
        job = Job(create(Path(folder) / "run", "plan"), settings, voice, weights=False)
        read_stage(job, source)
        split_stage(job, refuse_hollow=False)
        deal_into_folds(job)
        check_model(job)
        if settings.train.replay:
            general_rows(job)
        store = job.training_store
        if job.rendered("train").store.num_trained == 0:
            raise DataError("no token of the training rows would be trained.")
        found = _drawn_up(job, store, places)
        voice.log = None
    return found


def _drawn_up(job: Job, store: SequenceStore, places: Sequence[Place]) -> JsonObject:
    leeway = Leeway(job.settings.train.micro_tokens is None, job.settings.train.gradient_checkpointing is None)
    resolve_type(job)
    resolve_training(job, store)
    resolve_layout(job, store)
    weigher, train = Weigher(job, store), job.settings.train
    num_trained, epoch = weigher.num_trained(job.settings), first_epoch(job, store)
    batches = first_batches(job, store)
    assert train.steps and train.lora.rank
    tokens = tokens_of(store, epoch) * train.steps / len(epoch)
    work = _work(batches, tokens, store.num_trained / store.num_tokens)
    full = train.method == "full"
    flops = step_flops(shape(job), work, num_trained, full=full, checkpointing=bool(train.gradient_checkpointing))
    forecast = _Forecast(
        job, store, weigher, leeway, work, int(tokens), len(batches) / sum(b.num_tokens for b in batches)
    )
    kv = kv_bytes(shape(job), str(job.settings.model.dtype), weigher.longest * rows_at_once(job.settings.generate.batch_size, weigher.longest))  # fmt: skip
    return {
        "model": {"name": job.folder.name, "weights": shape(job).num_weights, "trained_weights": num_trained},
        "data": {
            "rows": len(job.rendered("train").rows), "sequences": len(store), "tokens_per_epoch": store.num_tokens, "longest": weigher.longest,
            "trained_tokens_per_epoch": store.num_trained, "processed_per_token": processed_per_token(batches),
        },
        "training": {
            "method": train.method, "rank": None if full else train.lora.rank, "lr": train.lr, "epochs": train.epochs, "steps": train.steps,
            "batch_tokens": train.batch_tokens, "micro_tokens": train.micro_tokens, "layout": train.layout, "dtype": job.settings.model.dtype,
            "optimizer": train.optimizer, "trainings_for_the_proof": job.settings.compare.folds or job.settings.compare.seeds - 1, "tokens": int(tokens), "processed_tokens": work.positions, "flops": flops,
        },
        "kv_bytes": kv, "packed_bytes": packed_bytes(shape(job), str(job.settings.model.dtype), on_cpu=job.device == "cpu"), "disk_bytes": disk_bytes(job, num_trained), "free_disk_bytes": hardware(Path()).free_disk_bytes,
        "machines": [forecast.on(place) for place in places],
    }  # fmt: skip


class _Forecast:
    """What one training takes on one machine after another."""

    def __init__(
        self, job: Job, store: SequenceStore, weigher: Weigher, leeway: Leeway, work: Work, tokens: int, batches_per_token: float
    ) -> None:  # fmt: skip
        self._job, self._store, self._weigher, self._leeway = job, store, weigher, leeway
        self._work, self._tokens, self._batches_per_token = work, tokens, batches_per_token
        self._chosen = job.settings
        self._held = memory_bytes()

    def on(self, place: Place) -> JsonObject:
        """Return what the training takes there; where it does not fit, under the settings that make it fit."""
        gpu = place.gpu
        ground = here(self._job) if gpu is None else Ground(False, int(gpu.memory_bytes * USABLE), "bfloat16")
        fitting = list(self._weigher.ways_that_fit(self._chosen, ground))
        way = next((one for one in fitting if self._leeway.allows(one)), fitting[0] if fitting else None)
        settings = self._chosen if way is None else with_values(self._chosen, way.settings)
        memory, free = self._weigher.memory(settings, ground), ground.free_bytes
        if ground.on_cpu:  # where this process stands for the one that will train
            memory, free = memory._replace(rest=memory.rest + self._held), free + self._held
        seconds, basis = self._seconds(way, settings, gpu)
        compiling = self._compiling(seconds, free - memory.total) if gpu is None else None
        return {
            "machine": place.name, "usable_bytes": free, "memory": memory._asdict(), "memory_bytes": memory.total,
            "fits": way is not None and self._leeway.allows(way), "with": None if way is None else way.settings,
            "advice": SMALLER if way is None else None,
            "seconds": None if seconds is None else round(seconds, 1), "seconds_from": basis,
            "compiling": None if compiling is None else compiling._asdict(),
            "money": None if seconds is None or place.price is None else round(seconds / 3600 * place.price, 4),
            "price_per_hour": place.price, "source": None if gpu is None else gpu.source,
        }  # fmt: skip

    def _seconds(self, way: Way | None, settings: Settings, gpu: Accelerator | None) -> tuple[float | None, str]:
        if way is None:
            return None, "does not fit"
        if gpu is not None:
            return self._counted(settings, gpu), f"counted: {UTILIZATION:.0%} of the published rate is assumed"
        self._job.settings = settings
        self._job.resolve({"train.layout": layout_under(self._job, settings)})
        pace = self._pace(self._weigher.num_trained(settings))
        held_out = self._job.rendered("validation").store.num_tokens
        return pace.seconds(settings.train, self._tokens, held_out), "measured on a few layers"

    def _compiling(self, seconds: float | None, spare_bytes: int) -> Choice | None:
        """Return what the plan of a run would choose here; nothing where the settings say it, or the training does not fit."""
        if seconds is None or self._chosen.train.compile is not None:
            return None
        return choice(seconds, refusal_of(self._job, spare_bytes))

    def _pace(self, num_trained: int) -> Pace:
        return calibrated(self._job, some_batches(self._job, self._store, times=2), num_trained)

    def _counted(self, settings: Settings, gpu: Accelerator) -> float:
        """Return the seconds of products at the assumed rate, or of reading the weights for each micro-batch where that takes longer."""
        train, sizes = settings.train, shape(self._job)
        assert train.steps and train.micro_tokens and self._chosen.train.micro_tokens
        num_trained, full = self._weigher.num_trained(settings), train.method == "full"
        again = bool(train.gradient_checkpointing)
        flops = step_flops(sizes, self._work, num_trained, full=full, checkpointing=again)
        batches = self._tokens * self._batches_per_token * self._chosen.train.micro_tokens / train.micro_tokens
        read = batches * (3 if again else 2) * 2 * sizes.num_weights
        updates = train.steps * num_trained * 28
        return (
            max(flops / (UTILIZATION * gpu.flops_per_second), read / gpu.bytes_per_second)
            + updates / gpu.bytes_per_second
        )


def _place(name: str, price: float | None) -> Place:
    bare, _, own = name.partition("=")
    gpu = accelerator(bare)
    try:
        return Place(gpu.name, gpu, float(own) if own else price)
    except ValueError as error:
        raise SettingsError(f"--gpu {name}: {own!r} is no price for an hour; write it as h100=2.5.") from error


def _work(batches: Sequence[Batch], tokens: float, trained_share: float) -> Work:
    """Return the work of the whole training from that of the first step."""
    seen = sum(batch.num_tokens for batch in batches)
    times = tokens / seen
    scores = sum(_scores(batch) for batch in batches)
    positions = sum(batch.num_positions for batch in batches)
    return Work(int(positions * times), int(tokens * trained_share), int(scores * times))


def _scores(batch: Batch) -> int:
    if batch.tree is None:
        return sum(place * place for place in batch.places)
    return sum(block.num_scores for block in tree_attention.blocks(batch.tree.segments))
