"""Append-only JSON lines that survive a kill: every line is whole or is cut away on reopening."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from luthier.core.disk import room_for
from luthier.core.errors import RunFolderError
from luthier.core.types import JsonObject


class Journal:
    """A file of JSON lines open for appending.

    `offset` is the size in bytes of what has been written; a checkpoint stores it and
    `cut(path, offset)` restores it.
    """

    def __init__(self, path: Path) -> None:
        _drop_torn_line(path)
        self._path = path
        self._stream = path.open("ab", buffering=0)  # a buffer would try again on closing what the disk had no room for

    @property
    def offset(self) -> int:
        """The size of the file in bytes."""
        return self._stream.tell()

    def write(self, entry: JsonObject) -> None:
        """Append one line; it is in the operating system's hands when this returns."""
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False)
        left = line.encode("utf-8") + b"\n"
        with room_for("a line", self._path, num_bytes=len(left)):
            while left:
                left = left[self._stream.write(left) :]

    def sync(self) -> None:
        """Force everything written so far onto the disk."""
        with room_for("a line", self._path):
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def entries(path: Path) -> Iterator[JsonObject]:
    """Yield the whole lines of a journal; an absent file has none, a torn last line is left out."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)


def cut(path: Path, offset: int) -> None:
    """Cut a journal to `offset` bytes, so that what follows it can be written again.

    Raises RunFolderError when it holds fewer: truncating would then fill it up with zeros.
    """
    if not path.exists():
        path.touch()
    size = path.stat().st_size
    if size < offset:
        raise RunFolderError(
            f"{path} has {size} bytes, but {offset} had been written; put the whole file back, or start a new run."
        )
    with path.open("r+b") as stream:
        stream.truncate(offset)


def _drop_torn_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        cut(path, whole)
