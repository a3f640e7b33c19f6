"""Layers that keep nothing for the backward pass, which runs each of them once more: with their cache as it was then.

transformers computes layers again too, but takes their cache away, because a second run would add the same tokens to it
twice. Here a layer's run remembers its inputs and a copy of the cache from before (the tables, not the tensors), and whatever autograd
asks of what was computed inside is made from these (the idea: Chen et al. 2016, arXiv 1604.06174). What a run leaves in the cache has
its place in the graph as ever, so branches hand their gradients back into what they share. Without gradients nothing happens.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch.autograd.graph import saved_tensors_hooks

from luthier.kernels.branching import BranchingCache


def compute_again(layers: Iterable[torch.nn.Module]) -> None:
    """Let these layers, none of which is inside another, keep nothing but their inputs from now on."""
    for layer in layers:
        running: list[_Run] = []
        layer.register_forward_pre_hook(partial(_begin, running), with_kwargs=True)
        layer.register_forward_hook(partial(_end, running), always_call=True)


class _Run:
    """One run of a layer: its inputs, then what the second run computed, in the order in which autograd kept it."""

    def __init__(self, layer: torch.nn.Module, inputs: Sequence[object], named: dict[str, object]) -> None:
        self._layer = layer
        self._inputs = [_as_it_is(value) for value in inputs]
        self._named = {name: _as_it_is(value) for name, value in named.items()}
        self._num_kept = 0
        self._made: list[torch.Tensor] = []
        self.hooks = saved_tensors_hooks(self._number, self._tensor)

    def _number(self, tensor: torch.Tensor) -> int:
        self._num_kept += 1
        return self._num_kept - 1

    def _tensor(self, number: int) -> torch.Tensor:
        if not self._made:
            with torch.enable_grad(), saved_tensors_hooks(self._keep, _unchanged):
                self._layer.forward(*self._inputs, **self._named)
            assert len(self._made) == self._num_kept, "a layer that is run again does not do the same"
            self._inputs, self._named = [], {}
        return self._made[number]

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        self._made.append(tensor.detach())
        return tensor


def _begin(running: list[_Run], layer: torch.nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> None:
    if torch.is_grad_enabled():
        running.append(_Run(layer, inputs, named))
        running[-1].hooks.__enter__()


def _end(running: list[_Run], layer: torch.nn.Module, inputs: object, output: object) -> None:
    if running:
        running.pop().hooks.__exit__()


def _as_it_is(value: object) -> object:
    return value.for_branches(1) if isinstance(value, BranchingCache) else value


def _unchanged(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
