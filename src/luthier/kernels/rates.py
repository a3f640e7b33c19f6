"""How fast this machine multiplies matrices, measured in a fraction of a second."""

import time

import torch


def matmul_rate(dtype: torch.dtype, device: str = "cpu", size: int = 1024, seconds: float = 0.15) -> float:
    """Return the rate of square matrix products in floating-point operations a second."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    result = left @ right
    start = time.monotonic()
    products = 0
    while (elapsed := time.monotonic() - start) < seconds:
        result = left @ right
        if device != "cpu":
            result[0, 0].item()
        products += 1
    return 2 * size**3 * products / elapsed


def faster_dtype(device: str = "cpu") -> tuple[torch.dtype, dict[str, float]]:
    """Return bfloat16 if it is at least 1.2 times as fast as float32 here, and both rates."""
    rates = {"bfloat16": matmul_rate(torch.bfloat16, device), "float32": matmul_rate(torch.float32, device)}
    return (torch.bfloat16 if rates["bfloat16"] > 1.2 * rates["float32"] else torch.float32), rates
