"""Several processes that train one model together, and what they tell each other.

Each holds the whole model, or where every weight is trained its part of the layers (`train/dealt.py`). A step's micro-batches are formed from all of its rows, the same in every process, and dealt
round-robin; a process that gets fewer runs a tree of weight zero, so that all run equally many. Losses and gradients are sums,
divided by the count of the whole step, so two processes take the steps of one. The first process leads: it alone
writes into the run folder. Started by `torchrun`, which says in the environment who is who.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache

import numpy as np
import torch
import torch.distributed as dist

from luthier.core.errors import SettingsError
from luthier.data.loader import Batch

# Gradients travel in pieces of so many numbers.
_PIECE = 1 << 24
# Others wait so long for the leader to read, check and plan; an error there ends them at once, by torchrun.
_PATIENCE = timedelta(days=30)


class World:
    """The processes of a training: this one's number and how many there are. Alone, everything here does nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._patient: dist.ProcessGroup | None = None
        if size > 1:
            group = dist.new_group(timeout=_PATIENCE)
            assert isinstance(group, dist.ProcessGroup)
            self._patient = group

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def own(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return this process's share of a step, as many batches as every other process gets."""
        if self.size == 1:
            return list(batches)
        mine = list(batches[self.rank :: self.size])
        missing = -(-len(batches) // self.size) - len(mine)
        return mine + [_weightless(batches[0])] * missing

    def sum(self, numbers: Iterable[float]) -> list[float]:
        """Add up what every process has."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(list(numbers), dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def any(self, here: bool) -> bool:
        """Tell whether something is so in any process."""
        return here if self.size == 1 else self.sum([float(here)])[0] > 0

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Give every process the sums of all gradients; one that no process has stays away."""
        if self.size == 1:
            return
        held = self.sum([float(parameter.grad is not None) for parameter in parameters])
        for parameter, number in zip(parameters, held, strict=True):
            if number and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad.view(-1) for parameter in parameters if parameter.grad is not None]
        for piece in _pieces(gradients):
            flat = torch.cat(piece)
            dist.all_reduce(flat)
            for into, value in zip(piece, flat.split([len(one) for one in piece]), strict=True):
                into.copy_(value)

    def whole(self, part: torch.Tensor, num_rows: int) -> torch.Tensor:
        """Return in the leader the tensor of which each process holds as many rows in turn; elsewhere the part itself."""
        if self.size == 1:
            return part
        filled = part.new_zeros(-(-num_rows // self.size), *part.shape[1:])
        filled[: len(part)] = part
        parts = [torch.empty_like(filled) for _ in range(self.size)] if self.leads else None
        dist.gather(filled, parts, dst=0)
        return part if parts is None else torch.cat(parts)[:num_rows]

    def part(self, whole: torch.Tensor) -> torch.Tensor:
        """Return the rows of a tensor that this process holds."""
        most = -(-len(whole) // self.size)
        return whole[self.rank * most : (self.rank + 1) * most]

    def told(self, word: str | None = None) -> str:
        """Return in every process what the leader says, and wait for it as long as it takes."""
        words = [word]
        if self.size > 1:
            dist.broadcast_object_list(words, src=0, group=self._patient)
        assert words[0] is not None
        return words[0]

    def wait(self) -> None:
        """Go on when every process has come here."""
        self.sum([0.0])


ALONE = World()


@cache
def world() -> World:
    """Return the processes that torchrun started, this one among them; this one alone where it did not."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "MASTER_ADDR" not in os.environ:
        return ALONE
    dist.init_process_group(_backends())
    return World(dist.get_rank(), dist.get_world_size())


def _backends() -> str:
    """Return what carries tensors between processes: gloo on CPUs, and nccl on GPUs, of which this process takes its own from now on.

    Numbers and words stay on the CPU and travel by gloo there too. Raises SettingsError where a process would have no GPU.
    """
    if not torch.cuda.is_available():
        return "cpu:gloo"
    place, here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if here > torch.cuda.device_count():
        raise SettingsError(
            f"torchrun started {here} processes on this machine, which has {torch.cuda.device_count()} GPU(s); each process needs one of its own. "
            "Start at most as many with --nproc-per-node, or hide the GPUs with CUDA_VISIBLE_DEVICES='' to train on the CPU."
        )
    torch.cuda.set_device(place)
    return "cpu:gloo,cuda:nccl"


def _weightless(batch: Batch) -> Batch:
    """Return a batch that is computed and counts nothing."""
    return replace(batch, weight_T=np.zeros_like(batch.weight_T), num_trained=0, rows=())


def _pieces(gradients: Sequence[torch.Tensor]) -> Iterable[list[torch.Tensor]]:
    piece: list[torch.Tensor] = []
    for gradient in gradients:
        if piece and sum(map(len, piece)) + len(gradient) > _PIECE:
            yield piece
            piece = []
        piece.append(gradient)
    if piece:
        yield piece
