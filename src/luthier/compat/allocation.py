"""Memory that C libraries keep though nothing needs it any more.

Goes when torch has a call for the size of oneDNN's cache, and a CPU allocator that gives memory back.
"""

import ctypes
import os
import sys

# oneDNN keeps the machine code of the last 1,024 different products, about half a MB each in bfloat16. Making one takes
# 0.3 ms, and a training step needs about a hundred.
_KERNELS = 128


def bound_kernel_cache() -> None:
    """Let oneDNN keep fewer kernels; acts when called before its first product in this process."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KERNELS))


def give_back_memory() -> None:
    """Return freed heap to the system. glibc keeps it, in pieces that tensors of other sizes do not fit into."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc, not musl
        libc.malloc_trim(0)
