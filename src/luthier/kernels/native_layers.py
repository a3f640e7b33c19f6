"""Norms and gates on a CPU, each as one call instead of the operations that it is written in, forward and backward.

They stand in the place of a stock model's own while rows are decoded, or while a training runs forward, as packed linear layers do (`packed_linear.py`).
Which modules compute the same is not read from their names: one of each kind is run beside its stock one, with counted random weights, and only what gives
the same, and the same gradients where they are wanted, is used.

Shapes: D channels of a hidden state, R rows of it, F of what a gated layer widens it to.
"""

import inspect
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.activations import SiLUActivation

from luthier.kernels import native
from luthier.kernels.native import WIDTH, Native

# Families whose layers' norms and gates are all computed so; a test holds the list to what happens.
IN_ONE_CALL = frozenset({
    "granite", "llama", "ministral", "mistral", "olmo2", "olmo3", "qwen2", "qwen3", "smollm3",
})  # fmt: skip
_SIZES = (1e-3, 0.1, 1.0, 30.0)  # of the rows that a module is run on
_NARROW = 2 * WIDTH
# Of a row's norm. In bfloat16 a number that is rounded otherwise ends in its neighbour, 2^-8 of it away; gradients are behind several such roundings.
_CLOSE = {torch.bfloat16: 2.0**-5, torch.float32: 1e-4}


class NativeNorm(nn.Module):
    """A root mean square norm with the weights of the one that it stands for."""

    def __init__(self, compiled: Native, norm: nn.Module) -> None:
        super().__init__()
        self._compiled = compiled
        self._stock = (norm,)  # in a tuple, which hides it: the model has its weights under one name
        self._epsilon = float(norm.variance_epsilon)  # pyright: ignore[reportArgumentType]  # torch types attributes as modules

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the normalized states."""
        weight_D = self._stock[0].get_parameter("weight")
        if hidden_states.dtype != weight_D.dtype:
            return self._stock[0](hidden_states)
        if torch.is_grad_enabled():
            return _Norm.apply(hidden_states, weight_D, self._epsilon, self._compiled)
        return self._compiled.rms_norm(hidden_states, weight_D, self._epsilon)


class NativeGate(nn.Module):
    """A layer that widens its input twice, lets one of both through the gate of the other, and narrows the result."""

    def __init__(self, compiled: Native, layer: nn.Module) -> None:
        super().__init__()
        self._compiled = compiled
        self.gate_proj, self.up_proj, self.down_proj = (
            layer.get_submodule(name) for name in ("gate_proj", "up_proj", "down_proj")
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the layer's result."""
        gate, up = self.gate_proj(hidden_states), self.up_proj(hidden_states)
        wants_grad = torch.is_grad_enabled()
        return self.down_proj(_Gate.apply(gate, up, self._compiled) if wants_grad else self._compiled.gated(gate, up))


class _Norm(torch.autograd.Function):
    """Keeps its input and a number a row, where the nine operations keep two float32 copies."""

    @staticmethod
    def forward(ctx, hidden, weight_D, epsilon, compiled):
        factor_R = torch.empty(hidden.numel() // len(weight_D))
        out = compiled.rms_norm(hidden, weight_D, epsilon, factor_R)
        ctx.save_for_backward(hidden, weight_D, factor_R)
        ctx.compiled = compiled
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, weight_D, factor_R = ctx.saved_tensors
        wants_weight = ctx.needs_input_grad[1]
        return *ctx.compiled.rms_norm_backward(grad, hidden, weight_D, factor_R, wants_weight=wants_weight), None, None


class _Gate(torch.autograd.Function):
    """Keeps its inputs, where two operations keep the opened gate too."""

    @staticmethod
    def forward(ctx, gate, up, compiled):
        ctx.save_for_backward(gate, up)
        ctx.compiled = compiled
        return compiled.gated(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *ctx.compiled.gated_backward(grad, *ctx.saved_tensors), None


_Proven = dict[tuple[object, ...], bool]
Swap = tuple[nn.Module, str, nn.Module, nn.Module]


def swaps(model: nn.Module, *, gradients: bool = False) -> list[Swap]:
    """Return whose child of which name may be replaced by what; `gradients` says whether a backward pass follows, whose gradients are proven too.

    It holds as long as the model keeps its modules, whatever becomes of its weights.
    """
    proven: _Proven = {}
    children = [(module, name, child) for module in model.modules() for name, child in module.named_children()]
    found = [(module, name, child, _native(child, proven, gradients)) for module, name, child in children]
    return [(module, name, child, fast) for module, name, child, fast in found if fast is not None]


@contextmanager
def swapped(found: list[Swap]) -> Generator[None]:
    """Let a model compute with the replacements for a while."""
    for module, name, _, fast in found:
        module._modules[name] = fast
    try:
        yield
    finally:
        for module, name, child, _ in found:
            module._modules[name] = child


def used(model: nn.Module, *, gradients: bool = False) -> AbstractContextManager[None]:
    """Find the replacements and let a model compute with them for a while."""
    return swapped(swaps(model, gradients=gradients))


def _native(module: nn.Module, proven: _Proven, gradients: bool) -> NativeNorm | NativeGate | None:
    """Return what computes the same as a module; None where nothing does, or where somebody listens to it."""
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    if _is_norm(module):
        width, kind = len(module.get_parameter("weight")), NativeNorm
        key = (type(module), width, module.variance_epsilon, gradients)
    elif _is_gate(module):
        width, kind = int(getattr(module.get_submodule("gate_proj"), "out_features", 1)), NativeGate
        key = (type(module), type(module.get_submodule("act_fn")), gradients)
    else:
        return None
    weight = next(module.parameters())
    dealt = any(
        type(one) is not nn.Parameter for one in module.parameters()
    )  # to several processes, or otherwise strange
    if width % WIDTH or dealt or (compiled := native.for_type(weight)) is None:
        return None
    key = (*key, weight.dtype)
    if key not in proven:
        stock = _stand_in(module, weight.dtype)
        proven[key] = _same(stock, kind(compiled, stock), weight.dtype, gradients)
    return kind(compiled, module) if proven[key] else None


def _is_norm(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    plain = weight is not None and weight.dim() == 1 and weight.is_contiguous()
    one_input = len(inspect.signature(type(module).forward).parameters) == 2  # a norm with a gate takes that too
    return plain and one_input and isinstance(getattr(module, "variance_epsilon", None), float)


def _is_gate(module: nn.Module) -> bool:
    parts = {"gate_proj", "up_proj", "down_proj"} <= module._modules.keys()
    return parts and isinstance(module._modules.get("act_fn"), SiLUActivation | nn.SiLU)


def _stand_in(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a module that computes as this one does, with counted random weights; a gated layer becomes a narrow one.

    What is found out of it is then the same for all weights, and so for a training that goes on as for the one that began.
    """
    copy = object.__new__(type(module))
    copy.__dict__ = dict(module.__dict__)
    numbers = torch.Generator().manual_seed(0)
    if _is_norm(module):
        weight = torch.randn(len(module.get_parameter("weight")), generator=numbers)
        copy._parameters = {"weight": nn.Parameter(weight.to(dtype))}
        return copy
    copy._modules = dict(module._modules)
    for name in ("gate_proj", "up_proj", "down_proj"):
        layer = nn.Linear(_NARROW, _NARROW, bias=False, device="meta")
        layer.weight = nn.Parameter((torch.randn(_NARROW, _NARROW, generator=numbers) / _NARROW**0.5).to(dtype))
        copy._modules[name] = layer
    return copy


def _same(stock: nn.Module, fast: nn.Module, dtype: torch.dtype, gradients: bool) -> bool:
    """Whether two modules give the same for rows of all sizes, and the same gradients."""
    weights = list(stock.parameters())
    numbers = torch.Generator().manual_seed(1)
    size_R1 = torch.tensor(_SIZES)[:, None]
    hidden_RD = (torch.randn(len(_SIZES), weights[0].shape[-1], generator=numbers) * size_R1).to(dtype)
    grad_RD = torch.randn(hidden_RD.shape, generator=numbers).to(dtype)
    with torch.inference_mode(mode=False), torch.set_grad_enabled(gradients):
        wanted, got = (_results(module, hidden_RD, grad_RD, weights) for module in (stock, fast))
    pairs = list(zip(wanted, got, strict=True))
    apart = [(b - a).float().norm(dim=-1) <= _CLOSE[dtype] * a.float().norm(dim=-1) for a, b in pairs]
    return all(a.dtype == b.dtype for a, b in pairs) and all(bool(close.all()) for close in apart)


def _results(
    module: nn.Module, hidden_RD: torch.Tensor, grad_RD: torch.Tensor, weights: list[nn.Parameter]
) -> list[torch.Tensor]:
    """Return a module's output and, where gradients are computed, those of its input and of its weights."""
    hidden_RD = hidden_RD.clone().requires_grad_(torch.is_grad_enabled())
    out_RD = module(hidden_RD)
    if not torch.is_grad_enabled():
        return [out_RD]
    return [out_RD.detach(), *torch.autograd.grad(out_RD, [hidden_RD, *weights], grad_RD)]
