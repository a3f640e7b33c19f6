"""A frozen linear layer and its low-rank update in one product after another, with nothing made that is not needed.

PEFT's layer makes the update, scales it and adds it as three tensors of the layer's width, casts on the way, and lets
autograd do the same backward. Here the second small product is added to the first large one where it lies, and in the backward pass
the gradient of the input likewise. The frozen weight gets no gradient, an input that needs none (below the
first adapted layer) gets none either. `reference.py` is the truth that it equals.

Shapes: N rows, D inputs, O outputs, R the rank.
"""

import torch
from torch.autograd.function import once_differentiable


def adapted_linear(
    x_D: torch.Tensor,
    weight_OD: torch.Tensor,
    bias_O: torch.Tensor | None,
    down_RD: torch.Tensor,
    up_OR: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Return `x @ weight.T + bias + scale * (x @ down.T) @ up.T`; only x, down and up get gradients."""
    return _AdaptedLinear.apply(x_D, weight_OD, bias_O, down_RD, up_OR, scale)


class _AdaptedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_D, weight_OD, bias_O, down_RD, up_OR, scale):
        x_ND = x_D.reshape(-1, x_D.shape[-1])
        low_NR = x_ND @ down_RD.t()
        out_NO = torch.nn.functional.linear(x_ND, weight_OD, bias_O).addmm_(low_NR, up_OR.t(), alpha=scale)
        ctx.save_for_backward(x_D, weight_OD, down_RD, up_OR, low_NR)
        ctx.scale = scale
        return out_NO.view(*x_D.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_O):
        x_D, weight_OD, down_RD, up_OR, low_NR = ctx.saved_tensors
        wants_x, _, _, wants_down, wants_up, _ = ctx.needs_input_grad
        grad_NO = grad_O.reshape(-1, grad_O.shape[-1])
        x_ND = x_D.reshape(-1, x_D.shape[-1])
        low_grad_NR = (grad_NO @ up_OR).mul_(ctx.scale) if wants_x or wants_down else None
        x_grad = (grad_NO @ weight_OD).addmm_(low_grad_NR, down_RD).view_as(x_D) if wants_x else None
        down_grad = low_grad_NR.t() @ x_ND if wants_down and low_grad_NR is not None else None
        up_grad = (grad_NO.t() @ low_NR).mul_(ctx.scale) if wants_up else None
        return x_grad, None, None, down_grad, up_grad, None
