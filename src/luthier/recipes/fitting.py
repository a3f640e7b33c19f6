"""Whether a training fits into memory, and which settings make it fit, those that cost least first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from luthier.config.load import with_values
from luthier.config.settings import Settings, TrainSettings
from luthier.core.errors import ResourceError
from luthier.core.hardware import hardware
from luthier.core.types import JsonObject
from luthier.data.loader import TREES, Layout, SequenceStore, heaviest
from luthier.data.replay import mixed_steps
from luthier.kernels import attention, native, native_attention
from luthier.kernels.native_layers import IN_ONE_CALL
from luthier.models.sizes import Memory, Shape, heap_bytes, kv_bytes, lora_weights, shape_of, training_memory
from luthier.recipes.job import DTYPES, Job
from luthier.recipes.layout import Heaviest, heaviest_tree, possible_sharing, unshared_layout
from luthier.train.clock import memory_bytes
from luthier.train.world import world

_STEPS_WEIGHED = 200
SMALLER = (
    "no setting makes this model fit; choose a smaller one (`luthier doctor` lists those that fit), or --set train.max_length lower"
)  # fmt: skip


class Ground(NamedTuple):
    """Where a training would run: a CPU or a GPU, the bytes that are free there, the type computed in."""

    on_cpu: bool
    free_bytes: int
    dtype: str


class Way(NamedTuple):
    """Settings that save memory; `exact` ones leave what is learned as it is."""

    settings: JsonObject
    exact: bool


@dataclass(frozen=True)
class Leeway:
    """What the user left open, so that the plan may choose it."""

    micro_tokens: bool
    checkpointing: bool

    def allows(self, way: Way) -> bool:
        """Tell whether the plan may go this way without asking."""
        asked = way.settings
        return (
            way.exact
            and (self.micro_tokens or "train.micro_tokens" not in asked)
            and (self.checkpointing or "train.gradient_checkpointing" not in asked)
        )


def shape(job: Job) -> Shape:
    """The base model's figures."""
    init = job.settings.model.init
    return shape_of(job.folder.config if init is None else {**init.model_dump(), "vocab_size": len(job.tokenizer)})


def here(job: Job) -> Ground:
    """This machine; processes that train together share the free memory of a CPU, and have a GPU each."""
    assert job.settings.model.dtype
    on_cpu = job.device == "cpu"
    free = hardware(job.run.path).free_memory_bytes if on_cpu else torch.cuda.mem_get_info()[0]
    return Ground(on_cpu, free // world().size if on_cpu else free, job.settings.model.dtype)


class Weigher:
    """What the training of a job takes under other settings; the heaviest micro-batches are looked for once."""

    def __init__(self, job: Job, store: SequenceStore) -> None:
        self._job, self._store, self._shape = job, store, shape(job)
        self._seen: dict[tuple[Layout, int, int], Heaviest] = {}

    @property
    def longest(self) -> int:
        """The tokens of the longest row, which a micro-batch has to hold."""
        return int(self._store.lengths.max())

    def memory(self, settings: Settings, ground: Ground) -> Memory:
        """Return what training adds to a process, with the heaviest micro-batch among the first steps to come."""
        train = settings.train
        assert train.micro_tokens and train.lora.rank and train.layout and train.steps
        layout = layout_under(self._job, settings)
        dtype = DTYPES[ground.dtype]
        kept = attention.LONGEST_SHORT.get(dtype, 0) if layout == "packed" and ground.on_cpu else 0
        most = self._heaviest(layout, train.micro_tokens, kept)
        no_scores = (
            ground.on_cpu and layout in ("packed", "tree") and native_attention.attends(self._shape.head_size, dtype)
        )
        in_one_call = ground.on_cpu and self._in_one_call(train)
        first, following = (
            training_memory(
                self._shape, self.num_trained(settings), ground.dtype, positions, checkpointing=bool(train.gradient_checkpointing),
                score_elements=0 if no_scores else most.scores, optimizer=train.optimizer, in_one_call=in_one_call,
                gathered=gathered,
            )
            for positions, gathered in ((most.positions, False), (most.following, True))
        )  # fmt: skip
        memory = max(first, following, key=lambda memory: memory.total) if most.following else first
        if train.gradient_checkpointing:  # what layers left in caches is kept where all else is computed again
            kept_caches = kv_bytes(self._shape, ground.dtype, most.cached)
            memory = memory._replace(activations=memory.activations + kept_caches)
        heap = heap_bytes(self._shape, ground.dtype, most.positions, train.steps, in_one_call=in_one_call)
        return memory._replace(rest=heap if ground.on_cpu else 0)

    def _in_one_call(self, train: TrainSettings) -> bool:
        """Whether norms and gates keep their inputs alone, as compiled functions do (`train/policy.py`)."""
        family = self._job.model_config.get_text_config().model_type
        dealt = world().size > 1 and train.method == "full"
        as_written = train.compile or train.gradient_checkpointing or dealt or native.library() is None
        return family in IN_ONE_CALL and not as_written

    def num_trained(self, settings: Settings) -> int:
        """Return how many weights are trained."""
        assert settings.train.lora.rank
        full = settings.train.method == "full"
        return self._shape.num_weights if full else lora_weights(self._shape, settings.train.lora.rank)

    def ways_that_fit(self, settings: Settings, ground: Ground) -> Iterator[Way]:
        """Yield the ways under which the training fits on this ground, that which costs least first."""
        for way in ways(settings, self.longest):
            if self.memory(with_values(settings, way.settings), ground).total <= ground.free_bytes:
                yield way

    def _heaviest(self, layout: Layout, micro_tokens: int, longest_kept: int) -> Heaviest:
        key = (layout, micro_tokens, longest_kept)
        if key not in self._seen:
            train, store = self._job.settings.train, self._store
            assert train.batch_tokens
            steps = mixed_steps(
                store, train.batch_tokens, self._job.settings.seed, 0, share=train.replay, layout=layout
            )
            steps = steps[: train.steps]
            steps = (
                steps[:_STEPS_WEIGHED] + steps[_STEPS_WEIGHED:][-1:]
            )  # the last of an epoch may be larger than all others
            if layout in TREES:
                self._seen[key] = heaviest_tree(store, steps, micro_tokens, layout)
            else:
                weighed = [heaviest(store.lengths[step], micro_tokens, layout, longest_kept) for step in steps]
                positions, squares, following = (max(figures) for figures in zip(*weighed, strict=True))
                self._seen[key] = Heaviest(positions, squares, following=following)
        return self._seen[key]


def ways(settings: Settings, longest: int) -> Iterator[Way]:
    """Yield settings that save memory, that which costs least first; the first changes nothing."""
    train = settings.train
    assert train.micro_tokens
    small: JsonObject = {"train.micro_tokens": longest} if train.micro_tokens > longest else {}
    again: JsonObject = {} if train.gradient_checkpointing else {"train.gradient_checkpointing": True}
    exact: list[JsonObject] = [{}, small, again, again | small]
    yield from (Way(one, True) for place, one in enumerate(exact) if one not in exact[:place])
    if train.method == "full":
        if train.optimizer == "adamw":
            yield Way(again | small | {"train.optimizer": "adamw8bit"}, False)
        yield Way(small | {"train.method": "lora"}, False)
        yield Way(again | small | {"train.method": "lora"}, False)


def fit(job: Job, store: SequenceStore, leeway: Leeway, ground: Ground) -> Memory:
    """Choose what was left open so that the training fits, and return what it takes; raise ResourceError where it cannot."""
    weigher = Weigher(job, store)
    if job.settings.train.micro_tokens < weigher.longest:  # type: ignore[operator]  # resolved before anything is fitted
        job.resolve({"train.micro_tokens": weigher.longest})
    fitting = list(weigher.ways_that_fit(job.settings, ground))
    way = next((way for way in fitting if leeway.allows(way)), None)
    if way is None:
        needed = weigher.memory(job.settings, ground).total
        helps = f"try {as_flags(fitting[0].settings)}" if fitting else SMALLER
        raise ResourceError(
            f"training needs about {needed / 2**30:.1f} GiB of memory and {ground.free_bytes / 2**30:.1f} GiB are free; {helps}."
        )
    if way.settings:
        job.voice.say(f"so that it fits into {ground.free_bytes / 2**30:.1f} GiB: {as_flags(way.settings)}")
    checkpointing = bool(job.settings.train.gradient_checkpointing)
    job.resolve({"train.gradient_checkpointing": checkpointing, **way.settings})
    job.resolve({"train.layout": layout_under(job, job.settings)})
    memory = weigher.memory(job.settings, ground)
    return memory._replace(rest=memory.rest + memory_bytes()) if ground.on_cpu else memory


def layout_under(job: Job, settings: Settings) -> Layout:
    """Return the layout of these settings, or the one without sharing where they would make it inexact (a way to LoRA with dropout)."""
    layout = settings.train.layout
    assert layout
    if layout not in TREES or layout in possible_sharing(job, settings).layouts:
        return layout
    return unshared_layout(job)


def as_flags(settings: JsonObject) -> str:
    """Write settings as the command line takes them."""
    words = {True: "true", False: "false"}
    return " ".join(f"--set {key}={words.get(value, value) if isinstance(value, bool) else value}" for key, value in settings.items())  # fmt: skip
