"""A cache for torch.compile that a kill cannot spoil.

Goes when inductor writes what it compiles beside and renames it: its cache of compiled kernels is shared by all processes
of a user, and a process that is killed while the linker writes leaves half a library there, on which every later one fails.
"""

import atexit
import os
import shutil
import tempfile

_PLACE = "TORCHINDUCTOR_CACHE_DIR"
_SHARED = "torchinductor_"  # torch writes its own default, the shared folder, into the environment


def own_compile_cache() -> None:
    """Give this process a compile cache of its own, which goes with it; a place that the user has set is left alone."""
    place = os.environ.get(_PLACE, "")
    if not place or os.path.basename(place).startswith(_SHARED):
        os.environ[_PLACE] = tempfile.mkdtemp(prefix="luthier-compiled-")
        atexit.register(shutil.rmtree, os.environ[_PLACE], ignore_errors=True)
