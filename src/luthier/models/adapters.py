"""Which weights are trained: all of them, or low-rank layers added by PEFT."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from luthier.compat.checkpointing import old_name_allowed
from luthier.config.settings import LoraSettings
from luthier.core.errors import ProofFailed, SettingsError
from luthier.core.hashing import derived_seed


def add_lora(model: PreTrainedModel, settings: LoraSettings, seed: int, base: str, revision: str | None) -> PeftModel:
    """Freeze the model and add LoRA layers (Hu et al. 2021) whose weights have the model's own type."""
    assert settings.rank and settings.alpha
    targets = "all-linear" if settings.targets == ("all-linear",) else list(settings.targets)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType] - peft takes floats too
        lora_dropout=settings.dropout, target_modules=targets,
        task_type="CAUSAL_LM", revision=revision,
    )  # fmt: skip
    torch.manual_seed(derived_seed(seed, "lora"))
    try:
        with old_name_allowed():
            tuned = get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise SettingsError(f"train.lora.targets: {error}") from error
    assert isinstance(tuned, PeftModel)
    tuned.peft_config["default"].base_model_name_or_path = base
    return tuned


def train_all(model: PreTrainedModel) -> PreTrainedModel:
    """Make every weight of the model trainable."""
    return model.requires_grad_(True)


def num_trained(model: torch.nn.Module) -> int:
    """Count the trained weights; raise ProofFailed when there is none."""
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if not count:
        raise ProofFailed("no weight of the model is trained; the adapter matches no layer.")
    return count
