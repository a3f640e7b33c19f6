"""Linear layers for decoding on a CPU, with their weights laid out once as oneDNN's products read them.

A product of many rows earns what it costs to lay the weights out anew every time. With the few rows of a decoding step that costs as much as the
product: on one core of an AMD EPYC, 1,536 x 576 weights in bfloat16 take 1.6 times as long from plain weights as from packed
ones with 4 or 16 rows, 1.3 times with 32 and 1.2 times with 64 (bench/packed.py). In bfloat16 the results are the same bits there;
float32 stays as it is, so that its answers are to the bit those of stock products.

Layers that read the same input, such as an attention's queries, keys and values, are laid out as one: with 32 rows that takes 0.7 to 0.9
of the time of its parts, since narrow products run at a lower rate. Whichever is called first computes all of them.

The packed copy stands beside the weights, so only models whose linear layers take at most `MOST_BYTES` are packed: a fixed
bound, since how a sum is rounded must not depend on what memory happens to be free.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

MOST_BYTES = 1 << 30
# The number of rows that the layout is chosen for; others are computed from the same one.
_ROWS = 64
# Names of layers that stand beside one another and read the same input in the models that transformers has.
_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))

Place = tuple[nn.Module, str, nn.Linear]


class Together:
    """The packed weights of layers that read the same input, and what was computed for those not called yet."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        self._widths = [layer.out_features for layer in layers]
        weight = torch.cat([layer.weight.detach() for layer in layers])
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._bias = _joined_bias(layers)
        self._input: torch.Tensor | None = None
        self._found: dict[int, torch.Tensor] = {}

    def result(self, place: int, input: torch.Tensor) -> torch.Tensor:
        """Return one layer's product: taken from what another's call has computed from this very tensor, or computed now."""
        if self._input is not input or place not in self._found:
            whole = torch.ops.mkldnn._linear_pointwise(input, self._packed, self._bias, "none", [], "")
            self._input, self._found = input, dict(enumerate(whole.split(self._widths, dim=-1)))
        out = self._found.pop(place)
        if not self._found:
            self._input = None
        return out


class PackedLinear(nn.Linear):
    """A linear layer that computes from a packed copy of the weights that it shares with the layer it stands for."""

    def __init__(self, plain: nn.Linear, together: Together | None = None, place: int = 0) -> None:
        super().__init__(plain.in_features, plain.out_features, plain.bias is not None, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.training = plain.training
        self._together, self._place = together or Together([plain]), place

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the product; it has no gradients."""
        return self._together.result(self._place, input)


def pack(model: nn.Module) -> list[Place]:
    """Put packed layers in the place of a model's linear layers; return whose child under which name each was before.

    A model stays as it is on other devices, in other types than bfloat16, or where it is too large.
    """
    found = {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) is nn.Linear and layer.weight.dtype == torch.bfloat16 and layer.weight.device.type == "cpu"
    }
    bytes_taken = sum(layer.weight.numel() * layer.weight.element_size() for layer in found.values())
    if bytes_taken > MOST_BYTES or not torch.backends.mkldnn.is_available():
        return []
    places: list[Place] = []
    for names in _groups(found):
        layers = [found[name] for name in names]
        together = Together(layers)
        for place, (name, layer) in enumerate(zip(names, layers)):
            above, _, own = name.rpartition(".")
            parent = model.get_submodule(above)
            setattr(parent, own, PackedLinear(layer, together, place))
            places.append((parent, own, layer))
    return places


@contextmanager
def packed(model: nn.Module) -> Generator[None]:
    """Let a model compute with packed weights for a while; they must not change meanwhile."""
    found = pack(model)
    try:
        yield
    finally:
        for parent, name, child in found:
            setattr(parent, name, child)


def _groups(layers: Mapping[str, nn.Linear]) -> list[list[str]]:
    """Put names of layers that read the same input together; layers below an adapter have one name more."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, layer in layers.items():
        above, _, own = name.removesuffix(".base_layer").rpartition(".")
        same = next((group for group in _TOGETHER if own in group), (own,))
        groups.setdefault((above, layer.in_features, *same), []).append(name)
    return list(groups.values())


def _joined_bias(layers: list[nn.Linear]) -> torch.Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat([
        layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach() for layer in layers
    ])  # fmt: skip
