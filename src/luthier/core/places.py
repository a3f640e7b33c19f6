"""Where a machine keeps what can be made again."""

import os
from pathlib import Path

CACHE_VARIABLE = "LUTHIER_CACHE"


def cache_folder() -> Path:
    """Return the folder: `LUTHIER_CACHE`, or `~/.cache/luthier`."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "luthier")
