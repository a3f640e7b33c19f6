"""Linear layers for decoding on a CPU, with their weights laid out once as oneDNN's products read them.

A product of many rows earns what it costs to lay the weights out anew every time. With the few rows of a decoding step that costs as much as the
product: on one core of an AMD EPYC, 1,536 x 576 weights in bfloat16 take 1.6 times as long from plain weights as from packed
ones with 4 rows, 1.5 times with 16 and 1.3 times with 32 (bench/packed.py). In bfloat16 the results are the same bits there;
float32 stays as it is, so that its answers are to the bit those of stock products.

The packed copy stands beside the weights, so only models whose linear layers take at most `MOST_BYTES` are packed: a fixed
bound, since how a sum is rounded must not depend on what memory happens to be free.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

MOST_BYTES = 1 << 30
# The number of rows that the layout is chosen for; others are computed from the same one.
_ROWS = 32


class PackedLinear(nn.Linear):
    """A linear layer that computes from a packed copy of the weights that it shares with the layer it stands for."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, plain.bias is not None, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.training = plain.training
        self._packed = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), _ROWS)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the product; it has no gradients."""
        return torch.ops.mkldnn._linear_pointwise(input, self._packed, self.bias, "none", [], "")


def pack(model: nn.Module) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Put packed layers in the place of a model's linear layers; return whose child under which name each was before.

    A model stays as it is on other devices, in other types than bfloat16, or where it is too large.
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16 and child.weight.device.type == "cpu"
    ]
    bytes_taken = sum(child.weight.numel() * child.weight.element_size() for _, _, child in found)
    if bytes_taken > MOST_BYTES or not torch.backends.mkldnn.is_available():
        return []
    for parent, name, child in found:
        setattr(parent, name, PackedLinear(child))
    return found


@contextmanager
def packed(model: nn.Module) -> Generator[None]:
    """Let a model compute with packed weights for a while; they must not change meanwhile."""
    found = pack(model)
    try:
        yield
    finally:
        for parent, name, child in found:
            setattr(parent, name, child)
