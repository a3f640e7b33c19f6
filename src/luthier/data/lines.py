"""Bytes to physical lines of text: encodings, byte order marks, line ends.

UTF-8 is checked line by line, so that one bad line costs one row. UTF-16 and UTF-32 are found
by their marks or their zero bytes; every other encoding must be declared, because a wrong guess
reads without an error and trains on garbage.
"""

import codecs
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from luthier.core.errors import DataError, SettingsError
from luthier.data.problems import RowProblem
from luthier.data.records import Broken
from luthier.data.sources import Source, byte_chunks, first_bytes

LONGEST_LINE_BYTES = 64 << 20
_HEAD_BYTES = 1 << 16
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16: its mark begins with the shorter one
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_ENOUGH_BAD_LINES = 1000


class Line(NamedTuple):
    """One physical line without its line end; a carriage return before a line feed is kept."""

    number: int
    text: str


def find_encoding(source: Source, declared: str | None) -> str:
    """Return the encoding to read with: the declared one, or what the first bytes say, else UTF-8."""
    if declared is not None:
        return _known_encoding(declared)
    head = first_bytes(source, _HEAD_BYTES)
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return encoding
    return _encoding_by_zeros(head[:4096])


def utf8_chunks(source: Source, encoding: str) -> Iterator[bytes]:
    """Yield the file as UTF-8 without a byte order mark; bytes that claim to be UTF-8 are not checked here."""
    chunks = byte_chunks(source) if encoding == "utf-8" else _transcoded(source, encoding)
    mark = codecs.BOM_UTF8
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(mark):
            yield head.removeprefix(mark)
            yield from chunks
            return
    yield head


def read_lines(source: Source, encoding: str) -> Iterator[Line | Broken]:
    """Yield the file's lines; ends are LF, CRLF, or CR where the file has no LF.

    Lines that are not UTF-8 or longer than 64 MiB come as Broken. Raises DataError when nearly
    every line with non-ASCII characters is broken: the file is in another encoding.
    """
    good = bad = 0
    sample = bytearray()
    for number, line in enumerate(_split(utf8_chunks(source, encoding), _line_end(source, encoding)), start=1):
        if line is None:
            yield Broken(number, "too-long-line", f"the line is longer than {LONGEST_LINE_BYTES >> 20} MiB")
            continue
        if line.isascii():
            yield Line(number, line.decode("ascii"))
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            bad += 1
            sample += line[: _HEAD_BYTES - len(sample)]
            if bad == _ENOUGH_BAD_LINES:
                _ensure_utf8(source, good, bad, bytes(sample))
            yield Broken(number, "bad-encoding", _bad_byte(line, error))
        else:
            good += 1
            yield Line(number, text)
    _ensure_utf8(source, good, bad, bytes(sample))


def read_text(source: Source, encoding: str, most_bytes: int) -> tuple[str, RowProblem | None]:
    """Return the whole text, and the problem that cut it short if the archive is damaged.

    Raises DataError when the text is longer than `most_bytes` or not UTF-8.
    """
    data = bytearray()
    problem = None
    try:
        for chunk in utf8_chunks(source, encoding):
            data += chunk
            if len(data) > most_bytes:
                raise DataError(
                    f"{source.name} is one JSON value of more than {most_bytes >> 20} MiB, which must fit in memory as a "
                    "whole; write it as JSON lines (one row a line), which are streamed."
                )
    except RowProblem as caught:
        problem = caught
    try:
        return data.decode("utf-8", "ignore" if problem else "strict"), problem
    except UnicodeDecodeError as error:
        raise _not_utf8(
            source, bytes(data[error.start - 200 if error.start > 200 else 0 : error.start + 200])
        ) from error


def _known_encoding(name: str) -> str:
    try:
        " ".encode(name)  # a lookup alone would also find codecs that are no text encodings, such as zip
        return codecs.lookup(name).name.replace("utf-8-sig", "utf-8")
    except LookupError as error:
        raise SettingsError(
            f"data.encoding: there is no text encoding {name!r}; common ones are cp1252, latin-1, utf-16, gb18030."
        ) from error


def _encoding_by_zeros(head: bytes) -> str:
    """Tell UTF-16 without a mark: in Western text and in JSON every other byte is mostly zero."""
    half = max(len(head) // 2, 1)
    even, odd = head[0::2].count(0) / half, head[1::2].count(0) / half
    if odd > 0.3 and even < 0.05:
        return "utf-16-le"
    if even > 0.3 and odd < 0.05:
        return "utf-16-be"
    return "utf-8"


def _transcoded(source: Source, encoding: str) -> Iterator[bytes]:
    unicode = encoding.startswith(("utf-16", "utf-32"))
    # A lone surrogate in UTF-16 goes through as bad UTF-8, so that it costs its line and not the file.
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass" if unicode else "strict")
    try:
        for chunk in byte_chunks(source):
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        if unicode and "truncated" in error.reason:
            raise RowProblem("truncated-file", f"the file ends within a {encoding} character") from error
        raise DataError(
            f"{source.name} is not {encoding}: {error.reason} at byte 0x{error.object[error.start]:02x}. "
            "Declare the right encoding with --set data.encoding=..."
        ) from error


def first_utf8(source: Source, encoding: str, size: int) -> bytes:
    """Return at most `size` first bytes as UTF-8, up to any damage, which whoever reads the source meets again."""
    head = bytearray()
    with suppress(RowProblem):
        for chunk in utf8_chunks(source, encoding):
            head += chunk
            if len(head) >= size:
                break
    return bytes(head[:size])


def _line_end(source: Source, encoding: str) -> bytes:
    head = first_utf8(source, encoding, _HEAD_BYTES)
    return b"\r" if b"\r" in head and b"\n" not in head else b"\n"


def _split(chunks: Iterator[bytes], end: bytes) -> Iterator[bytes | None]:
    """Split at line ends; None stands for a line that is too long."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *pieces = chunk.split(end)
        parts.append(first)
        size += len(first)
        if size > LONGEST_LINE_BYTES:
            parts.clear()
        if not pieces:
            continue
        yield b"".join(parts) if size <= LONGEST_LINE_BYTES else None
        yield from pieces[:-1]
        parts, size = [pieces[-1]], len(pieces[-1])
    if size:
        yield b"".join(parts) if size <= LONGEST_LINE_BYTES else None


def _bad_byte(line: bytes, error: UnicodeDecodeError) -> str:
    if line[error.start] == 0xED and line[error.start + 1 : error.start + 2] >= b"\xa0":
        return f"half of a UTF-16 surrogate pair at byte {error.start} of the line"
    return (
        f"byte 0x{line[error.start]:02x} at byte {error.start} of the line is not UTF-8; if the whole file is in another "
        "encoding, declare it with --set data.encoding=..."
    )


def _ensure_utf8(source: Source, good: int, bad: int, sample: bytes) -> None:
    if bad >= 3 and bad > 3 * good:
        raise _not_utf8(source, sample)


def _not_utf8(source: Source, sample: bytes) -> DataError:
    high = [byte for byte in sample if byte >= 0x80]
    if len(high) > 0.3 * len(sample):
        guess = "It looks like an encoding of a non-Latin script, such as gb18030, shift_jis, euc_kr or cp1251"
        name = "..."
    else:
        name = "cp1252" if any(byte < 0xA0 for byte in high) else "latin-1"
        guess = f"It looks like {name}"
    return DataError(f"{source.name} is not UTF-8. {guess}; declare it with --set data.encoding={name}")
