"""Several LoRA adapters over one base model, each row of a batch with its own.

PEFT does the work: a linear layer computes the base once for all rows and adds each adapter's update to its rows.
Adapters that no request uses are evicted, the longest unused first, when they take more than their bytes.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import cast

import torch
from peft import LoraModel, PeftModel
from transformers import PreTrainedModel

from luthier.compat.checkpointing import old_name_allowed
from luthier.core.errors import ModelError, nearest
from luthier.models.inspection import check_adapter

_BASE = "__base__"


class Adapters:
    """The base model and the adapters that are loaded, by name."""

    def __init__(self, base: PreTrainedModel, limit_bytes: int) -> None:
        self.model: PreTrainedModel | PeftModel = base
        self._limit = limit_bytes
        self._names: OrderedDict[str, int] = OrderedDict()
        self._loads = 0
        self._versions: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters in memory."""
        return tuple(self._names)

    def load(self, name: str, folder: Path, in_use: Collection[str] = ()) -> None:
        """Load an adapter in PEFT's format, or load it anew; those in use are never evicted for it."""
        check_adapter(folder)
        self.unload(name)
        known = {id(parameter) for parameter in self.model.parameters()}
        try:
            with old_name_allowed():
                if isinstance(self.model, PeftModel):
                    self.model.load_adapter(str(folder), name, is_trainable=False)
                else:
                    self.model = PeftModel.from_pretrained(self.model, str(folder), adapter_name=name)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(f"the adapter in {folder} cannot be loaded over this base model: {error}") from error
        added = [parameter for parameter in self.model.parameters() if id(parameter) not in known]
        cast(torch.nn.Module, self.model).requires_grad_(False).eval()
        self._names[name] = sum(parameter.numel() * parameter.element_size() for parameter in added)
        self._loads += 1
        self._versions[name] = f"{name}\0{self._loads}"
        self._evict({name, *in_use})

    def unload(self, name: str) -> None:
        """Let an adapter go; one that is not loaded is no fault."""
        if self._names.pop(name, None) is None:
            return
        model = cast(PeftModel, self.model)
        if self._names:
            model.set_adapter(next(reversed(self._names)))
            model.delete_adapter(name)
        else:
            self.model = cast(PreTrainedModel, cast(LoraModel, model.base_model).unload())

    def use(self, name: str | None) -> str:
        """Return what stands for the weights of an adapter, other after each load; raise ModelError if it is unknown."""
        if name is None:
            return ""
        if name not in self._names:
            raise ModelError(f"there is no adapter {name!r} loaded.{nearest(name, self._names)}")
        self._names.move_to_end(name)
        return self._versions[name]

    def arguments(self, names: Sequence[str | None]) -> dict[str, list[str]]:
        """Return what the model's forward pass is told about the adapters of its rows."""
        if not isinstance(self.model, PeftModel):
            return {}
        return {"adapter_names": [_BASE if name is None else name for name in names]}

    def _evict(self, kept: Collection[str]) -> None:
        for name in [name for name in self._names if name not in kept]:
            if sum(self._names.values()) <= self._limit:
                return
            self.unload(name)
