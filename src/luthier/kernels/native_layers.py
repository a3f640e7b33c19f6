"""Norms and gates for decoding on a CPU, each as one call instead of the operations that it is written in.

They stand in the place of a stock model's own for a while, as packed linear layers do (`packed_linear.py`). Which modules compute
the same is not read from their names: the first of a kind is run beside its own, with its own weights, and only what gives the same is used.

Shapes: D channels of a hidden state, R rows of it, F of what a gated layer widens it to.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.activations import SiLUActivation

from luthier.kernels import native
from luthier.kernels.native import WIDTH, Native

_SIZES = (1e-3, 0.1, 1.0, 30.0)  # of the rows that a module is run on
# Of a row's norm. In bfloat16 a number that is rounded otherwise ends in its neighbour, 2^-8 of it away.
_CLOSE = {torch.bfloat16: 2.0**-7, torch.float32: 1e-5}


class NativeNorm(nn.Module):
    """A root mean square norm with the weights of the one that it stands for."""

    def __init__(self, compiled: Native, norm: nn.Module) -> None:
        super().__init__()
        self._compiled = compiled
        self._stock = (norm,)  # in a tuple, which hides it: the model has its weights under one name
        self._weight_D = norm.get_parameter("weight").detach().contiguous()
        self._epsilon = float(norm.variance_epsilon)  # pyright: ignore[reportArgumentType]  # torch types attributes as modules

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the normalized states; they have no gradients."""
        if hidden_states.dtype != self._weight_D.dtype:
            return self._stock[0](hidden_states)
        return self._compiled.rms_norm(hidden_states, self._weight_D, self._epsilon)


class NativeGate(nn.Module):
    """A layer that widens its input twice, lets one of both through the gate of the other, and narrows the result."""

    def __init__(self, compiled: Native, layer: nn.Module) -> None:
        super().__init__()
        self._compiled = compiled
        self.gate_proj, self.up_proj, self.down_proj = (
            layer.get_submodule(name) for name in ("gate_proj", "up_proj", "down_proj")
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the layer's result; it has no gradients."""
        return self.down_proj(self._compiled.gated(self.gate_proj(hidden_states), self.up_proj(hidden_states)))


@contextmanager
def used(model: nn.Module) -> Generator[None]:
    """Let a model compute so for a while; its weights must not change meanwhile."""
    proven: dict[tuple[object, ...], bool] = {}
    found: list[tuple[nn.Module, str, nn.Module]] = []
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if (fast := _native(child, proven)) is not None:
                setattr(module, name, fast)
                found.append((module, name, child))
    try:
        yield
    finally:
        for module, name, child in found:
            setattr(module, name, child)


def _native(module: nn.Module, proven: dict[tuple[object, ...], bool]) -> NativeNorm | NativeGate | None:
    """Return what computes the same as a module; None where nothing does, or where somebody listens to it."""
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    if _is_norm(module):
        width, kind = len(module.get_parameter("weight")), NativeNorm
    elif _is_gate(module):
        width, kind = int(getattr(module.get_submodule("gate_proj"), "out_features", 1)), NativeGate
    else:
        return None
    weight = next(module.parameters())
    if width % WIDTH or (compiled := native.for_type(weight)) is None:
        return None
    fast = kind(compiled, module)
    key = (type(module), width, weight.dtype)
    if key not in proven:
        proven[key] = _same(module, fast, weight.dtype)
    return fast if proven[key] else None


def _is_norm(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and weight.dim() == 1 and isinstance(getattr(module, "variance_epsilon", None), float)


def _is_gate(module: nn.Module) -> bool:
    parts = {"gate_proj", "up_proj", "down_proj"} <= module._modules.keys()
    return parts and isinstance(module._modules.get("act_fn"), SiLUActivation | nn.SiLU)


def _same(stock: nn.Module, fast: nn.Module, dtype: torch.dtype) -> bool:
    """Whether two modules give the same for rows of all sizes."""
    width = next(stock.parameters()).shape[-1]
    random = torch.Generator().manual_seed(width)
    size_R1 = torch.tensor(_SIZES)[:, None]
    hidden_1RD = (torch.randn(1, len(_SIZES), width, generator=random) * size_R1).to(dtype)
    with torch.inference_mode():
        wanted_1RD, got_1RD = stock(hidden_1RD), fast(hidden_1RD)
    apart_1R = (got_1RD - wanted_1RD).float().norm(dim=-1) / wanted_1RD.float().norm(dim=-1)
    return wanted_1RD.dtype == dtype and bool((apart_1R <= _CLOSE[dtype]).all())
