"""Memory that C libraries keep though nothing needs it any more.

Goes when torch has a call for the size of oneDNN's cache, and a CPU allocator that gives memory back.
"""

import ctypes
import os
import sys

# oneDNN keeps the machine code of the last 1,024 different products, about half a MB each in bfloat16. Making one takes
# 0.3 ms, and a training step needs about a hundred.
_KERNELS = 128
# What glibc's thresholds rise to by themselves when blocks as large as these come and go.
_LARGEST_BLOCK, _FREE_AT_THE_END = 32 << 20, 64 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def bound_kernel_cache() -> None:
    """Let oneDNN keep fewer kernels; acts when called before its first product in this process."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KERNELS))


def give_back_memory() -> None:
    """Return freed heap to the system. glibc keeps it, in pieces that tensors of other sizes do not fit into."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def keep_some_memory() -> None:
    """Let the heap keep up to 64 MiB that is free at its end, so that layers of some MiB need not ask the system for pages time and again.

    glibc goes there by itself once blocks of 32 MiB have come and gone; prompts of a small model make smaller ones, and
    took a twelfth of their time to get the same pages back (200,000 page faults in 2.4 seconds).
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, _FREE_AT_THE_END)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None  # musl has none
