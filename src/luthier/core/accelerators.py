"""Published figures of GPUs, for plans on machines that are not at hand.

Rates are those of dense bfloat16 products with sums in float32, from the makers' data sheets: figures "with
sparsity" are twice as large and mean nothing here. Standard library only.
"""

from dataclasses import dataclass

from luthier.core.errors import SettingsError


@dataclass(frozen=True)
class Accelerator:
    """A GPU: memory in bytes, bytes a second from it, operations a second, and where that is written."""

    name: str
    memory_bytes: int
    bytes_per_second: float
    flops_per_second: float
    source: str


def _gpu(name: str, gigabytes: int, gigabytes_per_second: float, teraflops: float, source: str) -> Accelerator:
    return Accelerator(name, gigabytes * 10**9, gigabytes_per_second * 1e9, teraflops * 1e12, source)


ACCELERATORS = {
    gpu.name: gpu
    for gpu in (
        _gpu("rtx3090", 24, 936, 71, "NVIDIA Ampere GA102 white paper"),
        _gpu("rtx4090", 24, 1008, 165, "NVIDIA Ada white paper"),
        _gpu("rtx5090", 32, 1792, 209, "NVIDIA RTX Blackwell white paper"),
        _gpu("l4", 24, 300, 121, "NVIDIA L4 data sheet"),
        _gpu("a10", 24, 600, 125, "NVIDIA A10 data sheet"),
        _gpu("l40s", 48, 864, 362, "NVIDIA L40S data sheet"),
        _gpu("a100-40", 40, 1555, 312, "NVIDIA A100 data sheet"),
        _gpu("a100-80", 80, 2039, 312, "NVIDIA A100 data sheet"),
        _gpu("h100", 80, 3350, 989, "NVIDIA H100 data sheet (SXM)"),
        _gpu("h200", 141, 4800, 989, "NVIDIA H200 data sheet"),
        _gpu("b200", 180, 8000, 2250, "NVIDIA DGX B200 data sheet"),
        _gpu("mi300x", 192, 5300, 1307, "AMD Instinct MI300X data sheet"),
    )
}


def accelerator(name: str) -> Accelerator:
    """Return the GPU of that name; raise SettingsError that names those that are known."""
    found = ACCELERATORS.get(name.lower())
    if found is None:
        raise SettingsError(f"there are no figures of a GPU {name!r}; known are {', '.join(ACCELERATORS)}.")
    return found
