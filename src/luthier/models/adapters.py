"""Which weights are trained: all of them, or low-rank layers.

PEFT adds the low-rank layers, names them, reads and writes them; how one is computed in training is ours.
"""

import re

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from transformers import PreTrainedModel

from luthier.compat.checkpointing import old_name_allowed
from luthier.config.settings import LoraSettings
from luthier.core.errors import ProofFailed, SettingsError
from luthier.core.hashing import derived_seed
from luthier.kernels.adapted import adapted_linear


class AdaptedLinear(PeftLinear):
    """PEFT's low-rank layer, computed by `kernels/adapted.py` where it is the plain one: one adapter, no dropout, not merged."""

    def forward(self, x: torch.Tensor, *more: object, **options: object) -> torch.Tensor:
        """Return the layer's output with the update."""
        if more or options or not self._is_plain(x):
            return super().forward(x, *more, **options)
        name = self.active_adapters[0]
        base, down, up = self.get_base_layer(), self.lora_A[name], self.lora_B[name]
        assert (
            isinstance(base, torch.nn.Linear) and isinstance(down, torch.nn.Linear) and isinstance(up, torch.nn.Linear)
        )
        return adapted_linear(x, base.weight, base.bias, down.weight, up.weight, self.scaling[name])

    def _is_plain(self, x: torch.Tensor) -> bool:
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1 or torch.compiler.is_compiling():
            return False
        name, base = self.active_adapters[0], self.get_base_layer()
        if name not in self.lora_A or name in self.lora_variant or type(base) is not torch.nn.Linear:
            return False
        down, up = self.lora_A[name], self.lora_B[name]
        frozen = not base.weight.requires_grad
        one_type = x.dtype == base.weight.dtype == down.weight.dtype
        return frozen and one_type and up.bias is None and isinstance(self.lora_dropout[name], torch.nn.Identity)


def add_lora(model: PreTrainedModel, settings: LoraSettings, seed: int, base: str, revision: str | None) -> PeftModel:
    """Freeze the model and add LoRA layers (Hu et al. 2021) whose weights have the model's own type."""
    assert settings.rank and settings.alpha
    targets = "all-linear" if settings.targets == ("all-linear",) else list(settings.targets)
    beside = "|".join(f"{re.escape(part)}[.].*" for part in beside_the_text(model))
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType] - peft takes floats too
        lora_dropout=settings.dropout, target_modules=targets, exclude_modules=beside or None,
        task_type="CAUSAL_LM", revision=revision,
    )  # fmt: skip
    config._register_custom_module({torch.nn.Linear: AdaptedLinear})
    torch.manual_seed(derived_seed(seed, "lora"))
    try:
        with old_name_allowed():
            tuned = get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise SettingsError(f"train.lora.targets: {error} There are: {', '.join(_linear_layers(model))}.") from error
    assert isinstance(tuned, PeftModel)
    tuned.peft_config["default"].base_model_name_or_path = base
    return tuned


def _linear_layers(model: PreTrainedModel) -> list[str]:
    return sorted(
        {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    )


def train_all(model: PreTrainedModel) -> PreTrainedModel:
    """Make every weight of the model trainable through which text goes."""
    model.requires_grad_(True)
    for part in beside_the_text(model):
        model.get_submodule(part).requires_grad_(False)
    return model


def beside_the_text(model: PreTrainedModel) -> list[str]:
    """Name the parts of a model that also sees or hears through which no text goes: training text gives them no gradient."""
    decoder = model.get_decoder()
    path = next(name for name, module in model.named_modules() if module is decoder).split(".")
    found = []
    for depth in range(1, len(path)):
        above = ".".join(path[:depth])
        children = model.get_submodule(above).named_children()
        found += [f"{above}.{name}" for name, _ in children if name != path[depth]]
    return found


def num_trained(model: torch.nn.Module) -> int:
    """Count the trained weights; raise ProofFailed when there is none."""
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if not count:
        raise ProofFailed("no weight of the model is trained; the adapter matches no layer.")
    return count
