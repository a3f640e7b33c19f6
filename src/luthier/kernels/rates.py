"""How fast this machine multiplies matrices, measured in a fraction of a second."""

import time

import torch

_SIZE = {"cpu": 1024, "cuda": 8192}  # large enough to keep the machine busy


def matmul_rate(dtype: torch.dtype, device: str = "cpu", size: int | None = None, seconds: float = 0.15) -> float:
    """Return the rate of square matrix products in floating-point operations a second."""
    size = size or _SIZE.get(device, _SIZE["cpu"])
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    result = left @ right
    _wait_for(result)
    start = time.monotonic()
    products = 0
    while (elapsed := time.monotonic() - start) < seconds:
        result = left @ right
        _wait_for(result)
        products += 1
    return 2 * size**3 * products / elapsed


def _wait_for(result: torch.Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize()


def faster_dtype(device: str = "cpu") -> tuple[torch.dtype, dict[str, float]]:
    """Return bfloat16 if it is at least 1.2 times as fast as float32 here, and both rates."""
    rates = {"bfloat16": matmul_rate(torch.bfloat16, device), "float32": matmul_rate(torch.float32, device)}
    return (torch.bfloat16 if rates["bfloat16"] > 1.2 * rates["float32"] else torch.float32), rates
