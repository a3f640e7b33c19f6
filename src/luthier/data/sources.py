"""Files, folders and globs to streams of bytes, decompressed within limits.

What the bytes mean is the business of others (`lines`, `kinds`). Compression is told by the
first bytes, never by the name.
"""

import glob
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from luthier.core.errors import DataError, nearest
from luthier.core.hashing import file_hash
from luthier.data.problems import RowProblem

CHUNK_BYTES = 1 << 18
MOST_RATIO = 100
FREE_BYTES = 64 << 20
MOST_BYTES = 64 << 30

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ARCHIVES = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z"}
_ZSTD_READ_BYTES = 1 << 14


@dataclass(frozen=True)
class Source:
    """One file to read; `name` is its path below the folder that was asked for."""

    path: Path
    name: str

    @cached_property
    def sha256(self) -> str:
        """The hash of the file's bytes as they lie on the disk."""
        return file_hash(self.path)


def find_sources(path: str) -> list[Source]:
    """List the files that `path` means: a file, a folder (recursive, sorted, hidden left out) or a glob.

    Raises DataError when there is none.
    """
    if not path:
        raise DataError("the data is named by an empty text; give a file, folder or glob.")
    try:
        found = _found(path)
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that is closed, a home of nobody
        raise DataError(f"{path} cannot be looked at: {error}.") from error
    if not found:
        raise DataError(f"{path} holds no files to read; hidden files are left out.")
    return found


def head_bytes(source: Source, size: int) -> bytes:
    """Return up to `size` bytes as they lie on the disk; raise DataError where the file cannot be read."""
    with _opened(source) as stream:
        return stream.read(size)


def byte_chunks(source: Source) -> Iterator[bytes]:
    """Yield the file's bytes, decompressed if they are gzip or zstd.

    Raises RowProblem `truncated-file` or `damaged-file` after the last good byte of a broken
    archive, DataError for archives of other kinds and for decompression bombs.
    """
    with _opened(source) as stream:
        magic = stream.read(6)
        stream.seek(0)
        for start, kind in _ARCHIVES.items():
            if magic.startswith(start):
                raise DataError(f"{source.name} is a {kind} archive; unpack it first, or pack it as .gz or .zst.")
        if magic.startswith(_GZIP):
            yield from _within_limits(source, _gunzip(stream), stream.tell)
        elif magic.startswith(_ZSTD):
            yield from _unzstd(source)
        else:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk


def ensure_no_bomb(source: Source, unpacked: int, packed: int) -> None:
    """Raise DataError when so many bytes come of so few that they cannot be data."""
    if unpacked > MOST_BYTES or (unpacked > FREE_BYTES and unpacked > MOST_RATIO * packed):
        raise DataError(
            f"{source.name} unpacks to more than {unpacked >> 20} MiB from {packed} packed bytes; files that "
            f"unpack to over {MOST_RATIO} times their size or over {MOST_BYTES >> 30} GiB are refused. Unpack it yourself if you trust it."
        )


def first_bytes(source: Source, size: int) -> bytes:
    """Return up to about `size` bytes from the start, fewer if the file is shorter or damaged."""
    head = bytearray()
    with suppress(RowProblem):  # the reader proper meets the damage again and reports it at its place
        for chunk in byte_chunks(source):
            head += chunk
            if len(head) >= size:
                break
    return bytes(head[:size])


def _found(path: str) -> list[Source]:
    place = Path(path).expanduser()
    if place.is_dir():
        return [Source(file, file.relative_to(place).as_posix()) for file in _files_below(place)]
    if place.exists():
        return [Source(place, place.name)]
    if glob.has_magic(path):
        return _matching(str(place))
    raise DataError(f"there is no file or folder {path}.{_nearest_sibling(place)}")


def _opened(source: Source) -> BinaryIO:
    try:
        return source.path.open("rb")
    except OSError as error:
        raise DataError(f"{source.path} cannot be opened: {error.strerror}.") from error


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent) / name for name in files if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _matching(pattern: str) -> list[Source]:
    plain = Path(*_parts_before_magic(pattern))
    files = sorted(Path(name) for name in glob.glob(pattern, recursive=True))
    return [Source(file, file.relative_to(plain).as_posix()) for file in files if file.is_file()]


def _parts_before_magic(pattern: str) -> list[str]:
    parts: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def _nearest_sibling(place: Path) -> str:
    if not place.parent.is_dir():
        return ""
    return nearest(place.name, (sibling.name for sibling in place.parent.iterdir()))


def _gunzip(stream: BinaryIO) -> Iterator[bytes]:
    """Inflate member by member; bounded output, so that a bomb is seen before it fills the memory."""
    inflate = zlib.decompressobj(wbits=31)
    try:
        while data := stream.read(CHUNK_BYTES):
            while data:
                if inflate.eof:
                    data = data.lstrip(b"\0")  # tapes pad the last member with zeros
                    if not data:
                        break
                    inflate = zlib.decompressobj(wbits=31)
                out = inflate.decompress(data, CHUNK_BYTES)
                data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
                if out:
                    yield out
        while not inflate.eof and (out := inflate.decompress(b"", CHUNK_BYTES)):
            yield out
    except zlib.error as error:
        raise RowProblem("damaged-file", f"the gzip data is damaged here ({error}); what follows is lost") from error
    if not inflate.eof:
        raise RowProblem("truncated-file", "the gzip data ends before its end; the rows after this are missing")


def _unzstd(source: Source) -> Iterator[bytes]:
    with pa.OSFile(str(source.path)) as packed, pa.CompressedInputStream(packed, "zstd") as stream:
        yield from _within_limits(source, _zstd_chunks(stream), packed.tell)


def _zstd_chunks(stream: pa.NativeFile) -> Iterator[bytes]:
    try:
        while chunk := stream.read(_ZSTD_READ_BYTES):
            yield chunk
    except OSError as error:
        # Arrow says "Truncated compressed stream" for a cut file and the library's word otherwise.
        rule = "truncated-file" if "runcated" in str(error) else "damaged-file"
        raise RowProblem(rule, f"the zstd data cannot be read on from here ({error})") from error


def _within_limits(source: Source, chunks: Iterator[bytes], packed_bytes: Callable[[], int]) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > FREE_BYTES:
            ensure_no_bomb(source, total, packed_bytes())
        yield chunk
