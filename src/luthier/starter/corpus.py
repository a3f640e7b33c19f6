"""The corpus of the starter: a folder of JSON lines files (`*.jsonl`, `*.jsonl.zst`) read as documents.

A line holds `source` and either `text` (with a `title`) or `messages`. Sources that end in
`/reward` hold answers of models and are left out. A document is held out by its own hash, so
that the same documents stay unseen whatever else the folder holds.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from luthier.core.errors import DataError
from luthier.core.hashing import derived_seed
from luthier.core.types import JsonObject

HELD_OUT_OF_1000 = 10
PIECE_CHARS = (1500, 3000)
_LEFT_OUT = "/reward"
_SENTENCE_END = re.compile(r"[.!?]\"? ")


@dataclass(frozen=True, slots=True)
class Document:
    """One document: `rows` are its training rows in order, `family` the file that it came from."""

    family: str
    source: str
    rows: tuple[JsonObject, ...]
    held_out: bool


def read(folder: Path) -> Iterator[Document]:
    """Yield the documents of a corpus folder, file after file by name; raise DataError if there is none."""
    files = sorted(path for path in folder.glob("*.jsonl*") if path.name.endswith((".jsonl", ".jsonl.zst")))
    if not files:
        raise DataError(
            f"there is no *.jsonl or *.jsonl.zst file in {folder}; the starter's corpus needs at least one."
        )
    for path in files:
        family = path.name.partition(".")[0]
        for number, line in enumerate(_lines(path), start=1):
            row = json.loads(line)
            if not row["source"].endswith(_LEFT_OUT):
                yield _document(family, row, f"{path}:{number}")


def texts(row: JsonObject) -> list[str]:
    """Return the texts of a training row: its turns, or its one text."""
    if "messages" in row:
        return [str(message["content"]) for message in row["messages"]]  # type: ignore[index,union-attr]
    return [str(row["text"])]


def pieces(text: str) -> list[str]:
    """Split a long text at paragraph ends into pieces of about 1,500 to 3,000 characters, in order.

    A paragraph that is longer by itself is split between its sentences.
    """
    shortest, longest = PIECE_CHARS
    out: list[str] = []
    open_piece = ""
    for paragraph in _paragraphs(text, longest):
        if len(open_piece) >= shortest or (open_piece and len(open_piece) + len(paragraph) > longest):
            out.append(open_piece.strip("\n"))
            open_piece = ""
        open_piece += paragraph + "\n"
    last = open_piece.strip("\n")
    if last and out and len(last) < shortest // 3:
        out[-1] += "\n" + last
    elif last:
        out.append(last)
    return out


def _paragraphs(text: str, longest: int) -> Iterator[str]:
    for paragraph in text.split("\n"):
        while len(paragraph) > longest:
            ends = [found.end() for found in _SENTENCE_END.finditer(paragraph, longest // 2, longest)]
            cut = ends[-1] if ends else longest
            yield paragraph[:cut].rstrip()
            paragraph = paragraph[cut:]
        yield paragraph


def _document(family: str, row: JsonObject, where: str) -> Document:
    source = str(row["source"])
    if "messages" in row:
        messages = row["messages"]
        key = json.dumps(messages, ensure_ascii=False)
        rows: tuple[JsonObject, ...] = ({"messages": messages},)
    elif "text" in row:
        key = f"{row.get('title', '')}\n{row['text']}"
        rows = tuple({"text": piece} for piece in pieces(str(row["text"])))
    else:
        raise DataError(f"{where} has neither `text` nor `messages`; a line of the corpus needs one of them.")
    held_out = derived_seed("starter held-out", source, key) % 1000 < HELD_OUT_OF_1000
    return Document(family, source, rows, held_out)


def _lines(path: Path) -> Iterator[str]:
    compression = "zstd" if path.suffix == ".zst" else None
    with pa.input_stream(str(path), compression=compression) as stream:
        for line in stream.read().decode("utf-8").split("\n"):
            if line:
                yield line
