"""Plain text to records.

A file of up to 64 KiB is one document. A longer one is cut into passages, so that there is
something to hold out: at the first blank line after 4,096 characters, or, in text without blank
lines, at the first line end after 32,768. Nothing is left out between passages.
"""

from collections.abc import Iterator

from luthier.data.lines import read_lines
from luthier.data.records import Broken, Record
from luthier.data.sources import Source, first_bytes

WHOLE_BYTES = 64 << 10
PASSAGE_CHARACTERS = 4096
LONGEST_CHARACTERS = 32768


def text_rows(source: Source, encoding: str) -> Iterator[Record | Broken]:
    """Yield the documents of a text file as `{"text": ...}`."""
    whole = len(first_bytes(source, WHOLE_BYTES + 1)) <= WHOLE_BYTES
    lines: list[str] = []
    start = size = 0
    for line in read_lines(source, encoding):
        if isinstance(line, Broken):
            yield line
            continue
        text = line.text.removesuffix("\r")
        start = start if lines else line.number
        if text.strip() or lines:
            lines.append(text)
            size += len(text) + 1
        ends = size >= LONGEST_CHARACTERS or (size >= PASSAGE_CHARACTERS and not text.strip())
        if lines and ends and not whole:
            yield Record(start, {"text": "\n".join(lines).rstrip()})
            lines, size = [], 0
    if lines:
        yield Record(start, {"text": "\n".join(lines).rstrip()})
