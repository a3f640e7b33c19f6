"""Versions and machine of a run, for env.json and `doctor`."""

import platform
from importlib.metadata import version

import torch

from luthier.core.hardware import hardware
from luthier.core.types import JsonObject

PACKAGES = ("luthier", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pyarrow", "scikit-learn")


def environment() -> JsonObject:
    """Return what a result may depend on: versions, processor, cores, memory, accelerator."""
    machine = hardware()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "processor": machine.processor,
        "cores": machine.cores,
        "threads": torch.get_num_threads(),
        "memory_bytes": machine.memory_bytes,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
