"""What a full or failing disk is to the user: which file, how much it takes, how much is free, what to do."""

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from luthier.core.errors import ResourceError

# EFBIG: the limit that the shell sets on a file's size (ulimit -f).
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextmanager
def room_for(what: str, path: Path, *, num_bytes: int | None = None, safe: str = "") -> Generator[None]:
    """Raise ResourceError where the block cannot write `what` to `path`; other errors pass.

    `num_bytes` is what it takes, where that is known; `safe` says what is not lost.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        needed = f" It takes {_mebibytes(num_bytes)}, and" if num_bytes is not None else ""
        raise ResourceError(
            f"{what} cannot be written to {path}: {os.strerror(error.errno)}.{needed} {_mebibytes(_free(path))} are free there. "
            f"{safe}Make room on this disk, then go on with: luthier resume RUN"
        ) from error


def _free(path: Path) -> int:
    while not path.is_dir():
        path = path.absolute().parent
    return shutil.disk_usage(path).free


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
