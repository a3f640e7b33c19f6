"""The layers' weights dealt to the processes of a training: each holds a part of them, and all of a layer's only while it computes.

torch's `fully_shard` (FSDP2; Zhao et al. 2023, arXiv 2304.11277) fetches a layer's weights before it runs, forward and
backward, and adds the gradients up where the parts lie. So weights, masters, gradients and averages of the layers take
their share of memory in each process. What lies outside the layers (embeddings, last norm, output layer), which Luthier reads
as tensors of the model, stays whole everywhere.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from luthier.config.settings import TrainSettings
from luthier.core.errors import ModelError
from luthier.train.world import World


def deals(settings: TrainSettings, world: World) -> bool:
    """Tell whether a training deals its layers: several processes train every weight.

    Not where processes may call a layer unequally often (a tree of cached prefixes), where averages are packed in blocks that no
    part keeps, or where layers are compiled as they are.
    """
    whole = settings.layout == "cached_tree" or settings.optimizer == "adamw8bit" or bool(settings.compile)
    return world.size > 1 and settings.method == "full" and not whole


def deal_layers(decoder: torch.nn.Module, world: World) -> None:
    """Leave this process its part of every layer of a decoder."""
    try:
        layers = decoder.get_submodule("layers")
    except AttributeError as error:
        raise ModelError(
            f"{type(decoder).__name__} has no list of layers to deal to {world.size} processes; train it in one process."
        ) from error
    device = next(decoder.parameters()).device.type
    mesh = init_device_mesh(device, (world.size,))
    for layer in layers.children():
        dealt = fully_shard(
            layer, mesh=mesh, reshard_after_forward=True, mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32)
        )
        assert isinstance(dealt, FSDPModule)
        dealt.set_gradient_divide_factor(1.0)  # sums, as between processes that hold everything
        dealt.set_force_sum_reduction_for_comms(True)


def is_dealt(tensor: torch.Tensor) -> bool:
    """Tell whether this process holds only a part of a weight or gradient."""
    return isinstance(tensor, DTensor)


@torch.no_grad()
def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return what lies in this process of a weight or gradient, without a copy."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
