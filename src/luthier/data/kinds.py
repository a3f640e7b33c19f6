"""Which kind of file this is: told by its content, with the name as a tie-breaker."""

import json
import re
from typing import Literal

from luthier.core.errors import DataError
from luthier.data.lines import find_encoding, first_utf8
from luthier.data.sources import Source

Kind = Literal["jsonl", "json", "csv", "text", "parquet", "empty", "other"]
_HEAD_BYTES = 1 << 20
_LINE_ENDS = re.compile(r"[\r\n]+")
_BY_NAME: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".md": "text",
    ".parquet": "parquet",
}
_PAGES = ("<!doctype html", "<html", "<?xml")


def find_kind(source: Source, declared_encoding: str | None) -> tuple[Kind, str]:
    """Return the kind and the encoding; `other` is a file that holds no rows, such as a picture.

    Raises DataError for a web page that was saved in place of the data.
    """
    named = name_kind(source)
    with source.path.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            return "parquet", "utf-8"
    encoding = find_encoding(source, declared_encoding)
    head = first_utf8(source, encoding, _HEAD_BYTES)
    if head.startswith(b"PAR1"):
        raise DataError(f"{source.name} is a compressed Parquet file; unpack it first (Parquet compresses by itself).")
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text.strip():
        return "empty" if len(head) < _HEAD_BYTES else named or "text", encoding
    if text[:20].lower().startswith(_PAGES):
        raise DataError(
            f"{source.name} is a web page, not data; it begins {text[:60]!r}. The download probably failed; get the file again."
        )
    if named is None and b"\0" in head[:4096]:
        return "other", encoding
    return _kind_of_text(named, text, whole=len(head) < _HEAD_BYTES), encoding


def name_kind(source: Source) -> Kind | None:
    """Return the kind that the name claims, looking below `.gz` and `.zst`."""
    suffixes = [suffix.lower() for suffix in source.path.suffixes]
    while suffixes and suffixes[-1] in (".gz", ".zst", ".gzip", ".zstd"):
        suffixes.pop()
    return _BY_NAME.get(suffixes[-1]) if suffixes else None


def _kind_of_text(named: Kind | None, text: str, whole: bool) -> Kind:
    lines = [line for line in _LINE_ENDS.split(text) if line.strip()]
    first_parses = _parses(lines[0])
    if text[0] == "{":
        if first_parses:
            return "jsonl" if len(lines) > 1 or not whole or named == "jsonl" else "json"
        if named in ("csv", "text"):
            return named
        return (
            "jsonl"
            if (len(lines) > 1 and lines[1].startswith("{")) or (len(lines) == 1 and named != "json")
            else "json"
        )
    if text[0] == "[" and named != "text":
        return "jsonl" if first_parses and len(lines) > 1 and lines[1].startswith(("[", "{")) else "json"
    if named in ("jsonl", "json"):
        return "jsonl"
    return named or "text"


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
