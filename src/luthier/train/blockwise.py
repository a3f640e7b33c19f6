"""AdamW whose two averages take a byte each: a quarter of the optimizer's memory.

An average is kept in blocks of 256 numbers, each block as its largest magnitude and one byte a number (block-wise
quantization: Dettmers et al. 2021, arXiv 2110.02861). The 127 or 255 magnitudes of a byte stand in a geometric row,
so that the relative error is the same for small and large numbers of a block. Of the squares their root is kept,
which is what an update divides by; it is rounded up where it is smaller than every magnitude, never to zero. All else
is rounded up or down by chance in proportion: an average that moves by less than half a step would otherwise never move.
The chance is counted from the step and the weight's name, so that a resumed training goes on to the same bits.

Shapes: N numbers of a weight, n blocks of 256.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from luthier.core.hashing import derived_seed

BLOCK = 256
# Weights are moved so many numbers at a time: what is unpacked never takes more than some megabytes.
_CHUNK = 1 << 20


class Scale(NamedTuple):
    """The magnitudes that a byte can stand for: `levels` from `smallest` to 1 in a geometric row, and 0."""

    levels: int
    smallest: float

    def table(self, device: torch.device) -> torch.Tensor:
        """Return the magnitude of every level, float32; level 0 is 0."""
        exponent = torch.linspace(0, 1, self.levels, dtype=torch.float64)
        magnitudes = self.smallest ** (1 - exponent)
        return torch.cat([torch.zeros(1), magnitudes.float()]).to(device)


SIGNED = Scale(127, 1e-4)
ROOTS = Scale(255, 1e-5)


@dataclass
class Packed:
    """One average of a weight: int8 with a sign or uint8 without, n x 256, and the largest magnitude of each block."""

    code_nB: torch.Tensor
    largest_n: torch.Tensor

    @staticmethod
    def zeros(num: int, dtype: torch.dtype, device: torch.device) -> "Packed":
        """Return an average that is zero everywhere."""
        blocks = -(-num // BLOCK)
        return Packed(
            torch.zeros(blocks, BLOCK, dtype=dtype, device=device), torch.zeros(blocks, dtype=torch.float32, device=device)
        )  # fmt: skip

    @property
    def scale(self) -> Scale:
        """The magnitudes of this average's bytes."""
        return SIGNED if self.code_nB.dtype == torch.int8 else ROOTS

    def read(self, blocks: slice, table: torch.Tensor) -> torch.Tensor:
        """Return some blocks as numbers, float32."""
        code = self.code_nB[blocks].int()
        return table[code.abs()] * code.sign() * self.largest_n[blocks, None]

    def write(self, blocks: slice, value_nB: torch.Tensor, table: torch.Tensor, rng: torch.Generator) -> None:
        """Keep numbers as bytes, rounded by chance."""
        scale = self.scale
        largest_n = value_nB.abs().amax(1)
        share_nB = value_nB.abs() / largest_n.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        step = (scale.levels - 1) / -torch.tensor(scale.smallest, dtype=torch.float64).log().item()
        below = (share_nB.log() * step + scale.levels).floor_().clamp_(0, scale.levels - 1).int()
        low, high = table[below], table[below + 1]
        chance = torch.rand(share_nB.shape, generator=rng, device=share_nB.device)
        up = (share_nB - low) > chance * (high - low)
        if scale is ROOTS:
            up |= (below == 0) & (share_nB > 0)
        code = (below + up) * value_nB.sign().int()
        self.code_nB[blocks], self.largest_n[blocks] = code.to(self.code_nB.dtype), largest_n


class BlockwiseAdamW:
    """AdamW over named float32 masters, with packed averages; see `train/optim.py` for what calls it."""

    def __init__(
        self, masters: Mapping[str, torch.nn.Parameter], betas: tuple[float, float], weight_decay: float, eps: float
    ) -> None:
        self._masters, self._betas, self._eps = dict(masters), betas, eps
        self._decay = {name: weight_decay if master.dim() >= 2 else 0.0 for name, master in masters.items()}
        self._steps = dict.fromkeys(masters, 0)
        self._mean = {name: Packed.zeros(p.numel(), torch.int8, p.device) for name, p in masters.items()}
        self._root = {name: Packed.zeros(p.numel(), torch.uint8, p.device) for name, p in masters.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move every master that has a gradient, and clear the gradients."""
        for name, master in self._masters.items():
            if master.grad is not None:
                self._steps[name] += 1
                self._move(name, master.data.view(-1), master.grad.reshape(-1), lr)
                master.grad = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint needs beside the masters."""
        out: dict[str, torch.Tensor] = {}
        for name, steps in self._steps.items():
            if steps:
                for key, packed in (("mean8", self._mean[name]), ("root8", self._root[name])):
                    out[f"{key}.{name}"], out[f"{key}_largest.{name}"] = packed.code_nB, packed.largest_n
                out[f"step.{name}"] = torch.tensor(float(steps))
        return out

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what `tensors` gave."""
        for name, master in self._masters.items():
            if f"mean8.{name}" in tensors:
                for key, into in (("mean8", self._mean), ("root8", self._root)):
                    code, largest = tensors[f"{key}.{name}"], tensors[f"{key}_largest.{name}"]
                    into[name] = Packed(code.to(master.device).clone(), largest.to(master.device).clone())
                self._steps[name] = int(tensors[f"step.{name}"])

    def num_bytes(self) -> int:
        """The bytes of all averages."""
        packed = [*self._mean.values(), *self._root.values()]
        return sum(one.code_nB.nbytes + one.largest_n.nbytes for one in packed)

    def _move(self, name: str, weight_N: torch.Tensor, grad_N: torch.Tensor, lr: float) -> None:
        steps, (first, second) = self._steps[name], self._betas
        mean, root = self._mean[name], self._root[name]
        tables = (mean.scale.table(weight_N.device), root.scale.table(weight_N.device))
        rng = torch.Generator(weight_N.device).manual_seed(derived_seed(steps, "rounding", name))
        for start in range(0, len(weight_N), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(weight_N)))
            blocks = slice(start // BLOCK, -(-part.stop // BLOCK))
            grad_nB = _in_blocks(grad_N[part])
            mean_nB = mean.read(blocks, tables[0]).lerp_(grad_nB, 1 - first)
            square_nB = root.read(blocks, tables[1]).square_().mul_(second).addcmul_(grad_nB, grad_nB, value=1 - second)
            root_nB = square_nB.sqrt_()
            divisor_nB = (root_nB / (1 - second**steps) ** 0.5).add_(self._eps)
            update_nB = (mean_nB / divisor_nB).mul_(lr / (1 - first**steps))
            weight_N[part].mul_(1 - lr * self._decay[name]).sub_(update_nB.view(-1)[: part.stop - part.start])
            mean.write(blocks, mean_nB, tables[0], rng)
            root.write(blocks, root_nB, tables[1], rng)


def _in_blocks(numbers: torch.Tensor) -> torch.Tensor:
    """Return numbers as n x 256, filled up with zeros."""
    return torch.nn.functional.pad(numbers, (0, -len(numbers) % BLOCK)).view(-1, BLOCK)
