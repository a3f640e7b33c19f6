"""AdamW over float32 masters of the trained weights.

A bfloat16 weight has 8 bits of mantissa: an update of less than 1/256 of it is lost. So every
trained tensor that is not float32 has a float32 master that the optimizer moves, and gradients of
micro-batches are added up in float32. Of a weight that is dealt to several processes (`train/dealt.py`) each moves
its own part; checkpoints hold whole weights. Update rule: Loshchilov and Hutter 2017, arXiv 1711.05101.
"""

from collections.abc import Mapping
from typing import Protocol

import torch

from luthier.config.settings import TrainSettings
from luthier.train.blockwise import BlockwiseAdamW
from luthier.train.dealt import is_dealt, own_part
from luthier.train.world import ALONE, World

_EPS = 1e-8


class Averages(Protocol):
    """What moves the masters by their gradients: AdamW with averages in float32 or in bytes."""

    def step(self, lr: float) -> None: ...

    def tensors(self) -> dict[str, torch.Tensor]: ...

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None: ...


class MasterAdamW:
    """AdamW with float32 masters; `parameters` maps names to the tensors that are trained."""

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], settings: TrainSettings, world: World = ALONE
    ) -> None:
        self.parameters = dict(parameters)
        self.world = world
        self._dealt = {name: len(p) for name, p in self.parameters.items() if is_dealt(p)}
        self.clip = settings.clip
        self.masters = {name: _master(parameter) for name, parameter in self.parameters.items()}
        self._averages: Averages
        if settings.optimizer == "adamw8bit":
            self._averages = BlockwiseAdamW(self.masters, settings.betas, settings.weight_decay, _EPS)
        else:
            self._averages = FusedAdamW(self.masters, settings.betas, settings.weight_decay)

    @property
    def whole_masters(self) -> list[torch.nn.Parameter]:
        """The masters of weights that every process holds."""
        return [master for name, master in self.masters.items() if name not in self._dealt]

    def accumulate(self) -> None:
        """Add the gradients of the last backward pass to the masters' and clear them."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            master = self.masters[name]
            if master is not parameter:
                gradient = own_part(parameter.grad).float()
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                parameter.grad = None

    def clip_gradients(self) -> float:
        """Scale all gradients down to the norm `clip` where they exceed it; return their norm before that."""
        trained = [master for master in self.masters.values() if master.grad is not None]
        norm = _norm(self.whole_masters)
        if self._dealt:
            parts = _norm([self.masters[name] for name in self._dealt])
            (squares,) = self.world.sum([parts.item() ** 2])
            norm = (norm.square() + squares).sqrt()
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(trained, self.clip, norm)
        return norm.item()

    def step(self, lr: float) -> None:
        """Move the masters, clear their gradients, and write the weights back."""
        self._averages.step(lr)
        self.write_back()

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the masters into the weights that the model computes with."""
        for name, parameter in self.parameters.items():
            if self.masters[name] is not parameter:
                own_part(parameter).copy_(self.masters[name])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that a checkpoint needs: masters in float32, and the averages of each; of dealt ones other processes return their part."""
        masters = {f"master.{name}": master.detach() for name, master in self.masters.items()}
        out = masters | self._averages.tensors()
        for key, rows in self._dealt_in(out).items():
            out[key] = self.world.whole(out[key], rows)
        return out

    def mismatch(self, tensors: Mapping[str, torch.Tensor]) -> str | None:
        """Say what the tensors of a checkpoint lack or have in another shape, or None."""
        for name, parameter in self.parameters.items():
            saved = tensors.get(f"master.{name}")
            if saved is None or saved.shape != parameter.shape:
                found = "is not there" if saved is None else f"has the shape {list(saved.shape)}"
                return f"{name} {found}, and {list(parameter.shape)} is needed"
        in_bytes = any(name.startswith("mean8.") for name in tensors)
        in_floats = any(name.startswith("exp_avg.") for name in tensors)
        other = in_floats if isinstance(self._averages, BlockwiseAdamW) else in_bytes
        return "its averages are those of another train.optimizer" if other else None

    @torch.no_grad()
    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the tensors of a checkpoint over."""
        tensors = dict(tensors) | {key: self.world.part(tensors[key]) for key in self._dealt_in(tensors)}
        for name, master in self.masters.items():
            master.copy_(tensors[f"master.{name}"])
        self._averages.load(tensors)
        self.write_back()

    def _dealt_in(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Return which of a checkpoint's tensors are dealt, in an order that all processes have, and the rows of each when whole."""
        names = {key: key.partition(".")[2] for key in sorted(tensors) if tensors[key].dim()}
        return {key: self._dealt[name] for key, name in names.items() if name in self._dealt}


class FusedAdamW:
    """torch's own AdamW, with averages in float32; matrices decay, vectors do not."""

    def __init__(
        self, masters: Mapping[str, torch.nn.Parameter], betas: tuple[float, float], weight_decay: float
    ) -> None:
        self._masters = dict(masters)
        matrices = [master for master in masters.values() if master.dim() >= 2]
        vectors = [master for master in masters.values() if master.dim() < 2]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=0.0, betas=betas, eps=_EPS, fused=True
        )

    def step(self, lr: float) -> None:
        """Move every master that has a gradient, and clear the gradients."""
        for group in self._adamw.param_groups:
            group["lr"] = lr
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the averages of each master that was moved."""
        out: dict[str, torch.Tensor] = {}
        for name, master in self._masters.items():
            for key, value in self._adamw.state.get(master, {}).items():
                out[f"{key}.{name}"] = value
        return out

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what `tensors` gave."""
        for name, master in self._masters.items():
            if f"exp_avg.{name}" in tensors:
                self._adamw.state[master] = {
                    "step": tensors[f"step.{name}"].to(master.device).clone(),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(master.device).clone(),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(master.device).clone(),
                }


def _norm(masters: list[torch.nn.Parameter]) -> torch.Tensor:
    return torch.nn.utils.get_total_norm([master.grad for master in masters if master.grad is not None])


def _master(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    if is_dealt(parameter):
        own = own_part(parameter)  # in float32 the part itself is moved
        return torch.nn.Parameter(own.detach() if own.dtype == torch.float32 else own.float())
    if parameter.dtype == torch.float32:
        return parameter
    return torch.nn.Parameter(parameter.detach().float().clone())
