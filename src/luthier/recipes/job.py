"""A run in the making: its folder, its settings, and what the stages share, each made when first asked for.

A stage that ran in an earlier process left its results in the folder, so everything here can be made
again from the folder alone; that is what `resume` rests on.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from luthier.config.load import dump, with_values
from luthier.config.settings import Settings
from luthier.core.errors import RunFailed
from luthier.core.hardware import processor
from luthier.core.hashing import bytes_hash, file_hash, text_hash
from luthier.core.journal import entries
from luthier.core.rundir import RunDir, write_atomically
from luthier.core.types import PARTS, JsonObject, Part, Rendered, Row
from luthier.data import sequences
from luthier.data.loader import SequenceStore
from luthier.data.normal import question
from luthier.data.problems import RowProblem
from luthier.data.render import Renderer, render_all
from luthier.data.store import count_stored, read_stored
from luthier.data.swaps import asked_key, swapped
from luthier.generate.templating import Templates
from luthier.kernels import attention
from luthier.models import adapters
from luthier.models.first_load import loaded_apart
from luthier.models.load import (
    ModelFolder,
    context_length,
    find_model,
    is_shipped,
    load_config,
    load_model,
    load_tokenizer,
    random_model,
    stop_tokens,
)
from luthier.recipes.desk import Desk
from luthier.recipes.retrieved import Retrieved
from luthier.recipes.voice import Voice
from luthier.train import checkpoint
from luthier.train.policy import Policy
from luthier.train.world import world

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass
class RenderedPart:
    """One part as token sequences, with the rows that could not be rendered; `made` are sequences of rows that nobody gave."""

    rows: list[Row]
    sequences: list[Rendered]
    problems: dict[str, RowProblem]
    made: Sequence[Rendered] = ()

    @cached_property
    def store(self) -> SequenceStore:
        """The sequences as flat arrays, made ones behind the others."""
        return SequenceStore([*self.sequences, *self.made])


class Job(Desk):
    """What the stages of one run share."""

    def __init__(
        self, run: RunDir, settings: Settings, voice: Voice, *, weights: bool = True, leads: bool = True
    ) -> None:
        super().__init__(run, settings, voice)
        voice.log = run.log if leads else None
        self._weights = weights
        self._rendered: dict[Part, RenderedPart] = {}

    def resolve(self, values: JsonObject) -> None:
        """Replace settings by what was chosen for them, and write them back to config.yaml."""
        self.settings = with_values(self.settings, values)
        write_atomically(self.run.config, dump(self.settings).encode())

    @cached_property
    def folder(self) -> ModelFolder:
        """The base model on disk."""
        found = find_model(self.settings.model, weights=self._weights)
        return loaded_apart(found, with_config=self.settings.model.init is None)

    @property
    def base_name(self) -> str:
        """What plain `from_pretrained` takes for the base model: its hub id, or its folder."""
        return str(self.folder.path) if self.folder.revision is None else self.folder.name

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base model's tokenizer."""
        return load_tokenizer(self.folder)

    @cached_property
    def model_config(self) -> PreTrainedConfig:
        """The base model's config, as transformers reads it."""
        return LlamaConfig() if self.settings.model.init else load_config(self.folder)

    @cached_property
    def context(self) -> int:
        """The longest sequence of the model, in tokens."""
        init = self.settings.model.init
        return init.max_position_embeddings if init else context_length(self.folder)

    @cached_property
    def renderer(self) -> Renderer:
        """Rows to tokens, by the model's chat template."""
        max_length = min(self.settings.train.max_length or self.context, self.context)
        return Renderer(
            self.tokenizer, max_length=max_length, truncate=self.settings.train.truncate,
            enable_thinking=self.settings.model.enable_thinking, stop_tokens=stop_tokens(self.folder),
            rendering=None if is_shipped(self.folder) else Templates(self.tokenizer.apply_chat_template),
        )  # fmt: skip

    @property
    def device(self) -> str:
        """Where the model computes."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes in, once chosen."""
        assert self.settings.model.dtype
        return DTYPES[self.settings.model.dtype]

    @property
    def grader_name(self) -> str:
        """The grader, once chosen."""
        assert self.settings.compare.grader
        return self.settings.compare.grader

    def rows(self, part: Part) -> list[Row]:
        """The rows of one part."""
        return list(read_stored(self.run.part(part)))

    def rendered(self, part: Part) -> RenderedPart:
        """One part as token sequences; rendered once."""
        if part not in self._rendered:
            rows, sequences, problems = [], [], {}
            stored = read_stored(self.run.part(part))
            count = count_stored(self.run.part(part))
            for row, result in self._render(self.voice.track(f"tokenize {part}", stored, count), part):
                if isinstance(result, RowProblem):
                    problems[row.id] = result
                else:
                    rows.append(row)
                    sequences += result
            made = self._made(rows) if part == "train" and self.settings.train.swaps else []
            self._rendered[part] = RenderedPart(rows, sequences, problems, made)
        return self._rendered[part]

    def _render(self, rows: Iterable[Row], part: Part) -> Iterator[tuple[Row, list[Rendered] | RowProblem]]:
        """Render rows for training, with passages where `train.retrieved` says so; rows of the test stand as they are."""
        if self.settings.train.retrieved and part != "test":
            return self._retrieved.render(rows, self.renderer)
        return render_all(rows, self.renderer, "text" if self.settings.train.objective == "text" else "sft")

    @cached_property
    def _retrieved(self) -> Retrieved:
        return Retrieved(self.run, self.settings, self.tokenizer)

    def _made(self, rows: Sequence[Row]) -> list[Rendered]:
        """Render the rows that `train.swaps` makes of the training rows; none asks what a held-out row asks."""
        parts: tuple[Part, ...] = ("validation", "test")
        held_out: set[bytes] = set()
        for part in parts:
            if self.run.part(part).exists():
                held_out.update(asked_key(question(row)) for row in self.rows(part))
        made = swapped(rows, self.settings.train.swaps, self.settings.seed, held_out)
        self.voice.say(f"{len(made):,} more training rows made by swapping copied values (train.swaps)")
        found = [result for _, result in self._render(made, "train")]
        return [sequence for result in found if not isinstance(result, RowProblem) for sequence in result]

    @cached_property
    def replayed(self) -> RenderedPart:
        """The general rows that training replays, as token sequences: of a chat the answers are trained, of a text every token."""
        return self.rendered_general("replay") if self.settings.train.replay else RenderedPart([], [], {})

    def rendered_general(self, side: str, objective: Literal["sft", "text"] | None = None) -> RenderedPart:
        """One side of the general rows as token sequences, by the run's own objective where none is named."""
        own = "text" if self.settings.train.objective == "text" else "sft"
        part = RenderedPart([], [], {})
        for row, result in render_all(read_stored(self.run.general(side)), self.renderer, objective or own):
            if isinstance(result, RowProblem):
                part.problems[row.id] = result
            else:
                part.rows.append(row)
                part.sequences += result
        return part

    @cached_property
    def training_store(self) -> SequenceStore:
        """All that is trained: the sequences of the training part, and behind them those that are replayed.

        They are kept in the run folder, and read from there where nothing that they depend on has changed.
        """
        made_from = self._made_from()
        kept = sequences.read(self.run.sequences, made_from)
        if kept is not None:
            return kept
        own = self.rendered("train")
        replayed = self.replayed.sequences if self.settings.train.replay else ()
        store = SequenceStore([*own.sequences, *own.made], replayed) if replayed else own.store
        if world().leads:
            sequences.write(self.run.sequences, store, made_from)
        return store

    def _made_from(self) -> str:
        """Return what the sequences of training depend on, as a hash: the rows of all parts, the tokenizer and its settings."""
        files = [self.run.part(part) for part in PARTS] + [self.run.general("replay")]
        train, tokenizer = self.settings.train, self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        words = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
        return text_hash(json.dumps([
            version("luthier"), words, tokenizer.chat_template, self.renderer.stop_tokens, min(train.max_length or self.context, self.context),
            train.objective, train.truncate, train.swaps, train.replay, self.settings.model.enable_thinking, self.settings.seed,
            [file_hash(path) if path.exists() else None for path in files],
            *([self._retrieved.made_from] if train.retrieved else []),
        ]))  # fmt: skip

    def base_model(self) -> PreTrainedModel:
        """Load the model as it is before training."""
        init = self.settings.model.init
        if init is not None:
            return random_model(init, self.tokenizer, self.settings.seed, self.dtype, self.device)
        return load_model(self.folder, self.dtype, self.device)

    def trainable_model(self) -> PreTrainedModel | PeftModel:
        """Load the model and make the weights trainable that the method trains."""
        return self._made_trainable(self.base_model())

    def _made_trainable(self, model: PreTrainedModel) -> PreTrainedModel | PeftModel:
        train = self.settings.train
        if train.method == "lora":
            return adapters.add_lora(model, train.lora, self.settings.seed, self.base_name, self.folder.revision)
        return adapters.train_all(model)

    @cached_property
    def policy(self) -> Policy:
        """The model wrapped for training; shared by plan and training."""
        return self.policy_of(self.base_model())

    def policy_of(self, model: PreTrainedModel) -> Policy:
        """Wrap a model for training as the settings say, with the attention of their layout."""
        train = self.settings.train
        policy = Policy(self._made_trainable(model), compiled=bool(train.compile))
        if train.layout in ("packed", "tree"):
            policy.stock.set_attn_implementation(attention.register(compiled=bool(train.compile)))
        if train.gradient_checkpointing:
            policy.compute_again(train.layout or "padded")
            policy.model.train()
        return policy

    def forget_rendered(self) -> None:
        """Let the sequences go, where rows were dealt to other parts than those that they were made for."""
        self._rendered.clear()
        self.__dict__.pop("_retrieved", None)

    def forget_policy(self) -> None:
        """Let the memory of the trained model go; `tuned_model` loads its best weights."""
        self.__dict__.pop("policy", None)

    def tuned_model(self) -> PreTrainedModel | PeftModel:
        """Load the model with the best weights of the training."""
        step = self.training["best_step"]
        assert isinstance(step, int)
        return self.model_of(self.run.checkpoints / f"{step:06d}")

    def model_of(self, path: Path) -> PreTrainedModel | PeftModel:
        """Load the model with the weights of a checkpoint of this run."""
        model = self.trainable_model()
        tensors = checkpoint.load(path).tensors
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(tensors[f"master.{name}"])
        return model.eval()

    @property
    def training(self) -> JsonObject:
        """How training ended; raises RunFailed when it has not."""
        for entry in entries(self.run.events):
            if entry["event"] == "trained":
                return entry
        raise RunFailed(f"{self.run.path} has not finished training; go on with: luthier resume {self.run.path}")

    @property
    def plan(self) -> JsonObject:
        """What was predicted."""
        return json.loads(self.run.plan.read_text(encoding="utf-8"))

    def fingerprint(self) -> JsonObject:
        """All that the trained weights depend on, to the bit."""
        return {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if self.device == "cuda" else processor(),
            "threads": torch.get_num_threads(),
            **({"processes": world().size} if world().size > 1 else {}),
            "data": bytes_hash(self.training_store.digest()),
            "settings": self.settings.model_dump(mode="json", by_alias=True),
            "base": _weights_hash(self.folder.path) if self.settings.model.init is None else "random",
        }


def _weights_hash(folder: Path) -> str:
    return text_hash("".join(file_hash(path) for path in sorted(folder.glob("*.safetensors"))))
