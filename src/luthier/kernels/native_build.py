"""The making of the compiled functions: once a machine, by its own compiler, in a few seconds.

A library is kept by the hash of the sources, the flags, the compiler and the processor; where nothing can be kept it is made anew in each process.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from luthier.core.places import cache_folder

Library = TypeVar("Library")
_FOLDER = Path(__file__).parent
_SOURCES = ("native.h", "native.cpp", "native_tree.cpp")
# No -ffast-math: it would take the rounding out of the exponential, and infinities out of what is hidden.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-exceptions", "-fno-rtti", "-fPIC", "-shared")
_MOST_SECONDS = 60
_OTHERS = 0o022  # write permissions of a group and of the world


def compiler() -> str:
    """Return the name of this machine's C++ compiler: `CXX`, or the system's usual one."""
    return os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")


def build(load: Callable[[Path], Library]) -> Library:
    """Load the library from the cache, or compile it there; raises OSError or SubprocessError."""
    name = f"{_key()}.so"
    try:
        path = cache_folder() / "native" / name
        if _is_ours(path):
            return load(path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = tempfile.mkdtemp(dir=path.parent)
    except (OSError, RuntimeError):  # a home that is not writable, or none
        folder, path = tempfile.mkdtemp(), None
    try:
        made = Path(folder) / "native.so"
        subprocess.run(
            [compiler(), *_FLAGS, *(str(_FOLDER / name) for name in _SOURCES if name.endswith(".cpp")), "-o", str(made)], check=True, capture_output=True, text=True, timeout=_MOST_SECONDS
        )  # fmt: skip
        made.chmod(0o700)
        return load(made if path is None else made.replace(path))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _key() -> str:
    """Tell apart what would make another library: a machine's home may be that of others too."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    kinds = {line for line in cpu if line.startswith(("model name", "flags", "Features", "CPU part"))}
    found = shutil.which(compiler()) or ""
    made = [*_FLAGS, platform.machine(), found, str(Path(found).stat().st_mtime_ns), *sorted(kinds)]
    sources = b"".join((_FOLDER / name).read_bytes() for name in _SOURCES)
    return hashlib.sha256(sources + "\n".join(made).encode()).hexdigest()[:24]


def _is_ours(path: Path) -> bool:
    """Whether a file is there that nobody else could have written."""
    if not path.exists():
        return False
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & _OTHERS
