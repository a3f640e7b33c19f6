"""Small trainings with random weights and random rows, for tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from luthier.config.settings import LoraSettings, TrainSettings
from luthier.core.rundir import RunDir, create
from luthier.core.types import JsonObject, Rendered
from luthier.data.loader import SequenceStore
from luthier.kernels import attention
from luthier.models.adapters import add_lora, train_all
from luthier.train.loop import Outcome, Progress, Trainer
from luthier.train.objectives.sft import Objective
from luthier.train.policy import Policy

VOCAB = 512


def tiny_model(
    seed: int = 0, *, vocab_size: int = VOCAB, dtype: torch.dtype = torch.float32, layers: int = 2
) -> LlamaForCausalLM:
    """Layers of width 64, with weights large enough that attention and answers vary."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.1, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype)


def random_sequences(
    num_rows: int, seed: int = 0, *, longest: int = 40, vocab_size: int = VOCAB, shared: int = 0
) -> list[Rendered]:
    """Rows of random tokens whose second half is trained, behind `shared` tokens that all begin with."""
    rng = np.random.default_rng(seed)
    sequences = []
    beginning = np.arange(shared) % vocab_size
    for row in range(num_rows):
        length = int(rng.integers(4, longest + 1))
        weights = np.zeros(length, dtype=np.float32)
        weights[max(1, length // 2) :] = 1
        tokens = np.concatenate([beginning, rng.integers(0, vocab_size, length)]).astype(np.int32)
        sequences.append(Rendered(f"row-{row}", tokens, np.pad(weights, (shared, 0))))
    return sequences


def random_store(
    num_rows: int, seed: int = 0, *, longest: int = 40, vocab_size: int = VOCAB, shared: int = 0
) -> SequenceStore:
    """The same rows as a store."""
    return SequenceStore(random_sequences(num_rows, seed, longest=longest, vocab_size=vocab_size, shared=shared))


def resolved(**changes: object) -> TrainSettings:
    """Settings with nothing left open: 12 steps of about 8 rows in two micro-batches, a checkpoint at every step."""
    values = {
        "method": "full", "lr": 3e-3, "steps": 12, "batch_tokens": 160, "micro_tokens": 100, "layout": "packed",
        "warmup": 0.1, "checkpoint_seconds": 1e-6, "patience": 0, "compile": False,
    }  # fmt: skip
    return TrainSettings(**(values | changes))  # type: ignore[arg-type]


def policy_of(model: LlamaForCausalLM, settings: TrainSettings, seed: int = 0) -> Policy:
    """The model made trainable and laid out as the settings say."""
    if settings.method == "lora":
        lora = LoraSettings(
            **(settings.lora.model_dump() | {"rank": settings.lora.rank or 4, "alpha": settings.lora.alpha or 8})
        )
        policy = Policy(add_lora(model, lora, seed, "tiny", None), compiled=bool(settings.compile))
    else:
        policy = Policy(train_all(model), compiled=bool(settings.compile))
    if settings.layout in ("packed", "tree"):
        policy.stock.set_attn_implementation(attention.register(compiled=bool(settings.compile)))
    if settings.gradient_checkpointing:
        policy.compute_again(settings.layout or "padded")
    return policy


def live_lora(model: torch.nn.Module) -> None:
    """Give the B matrices weights, so that the A matrices have gradients too."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)


def new_run(path: Path) -> RunDir:
    """A run folder, or the one that is there already."""
    return RunDir(path) if path.exists() else create(path, "tiny")


def trainer_of(
    run: RunDir,
    settings: TrainSettings,
    *,
    num_rows: int = 40,
    shared: int = 0,
    model: LlamaForCausalLM | None = None,
) -> Trainer:
    """A training of a tiny model on random rows, as a new process would make it."""
    policy = policy_of(model or tiny_model(), settings)
    return Trainer(policy, Objective(), random_store(num_rows, shared=shared), settings, 0, run)


def train(
    path: Path,
    settings: TrainSettings,
    *,
    validate: Callable[[], float] | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
    fingerprint: JsonObject | None = None,
    shared: int = 0,
) -> Outcome:
    """Train in the folder, going on from what lies there."""
    return trainer_of(new_run(path), settings, shared=shared).train(fingerprint or {"data": "tiny"}, validate, watch)


def weights_of(run: RunDir, step: int) -> bytes:
    """The bytes of a checkpoint's tensors."""
    return (run.checkpoints / f"{step:06d}" / "tensors.safetensors").read_bytes()
