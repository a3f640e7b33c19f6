"""A folder of plain texts as short chunks that fit into a prompt.

A chunk is a few paragraphs under one heading. The headings above it come along, for without them a passage often does not
say what it is about. Only text and Markdown are read; a folder with anything else in it is refused rather than half used.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from luthier.core.errors import DataError

LONGEST_CHUNK = 800
_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst")
_MOST_NAMED = 5
_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*")
_BLANK_LINES = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")


class Document(NamedTuple):
    """A text and where it is from."""

    name: str
    text: str


def read_documents(path: Path) -> list[Document]:
    """Read one file, or every text in a folder and below, in the order of their names; hidden ones are passed over.

    Raises DataError that names the files which are no plain text, or says that there is none at all.
    """
    if not path.exists():
        raise DataError(f"there is no file or folder {path} to take knowledge from.")
    files = [path] if path.is_file() else _files(path)
    read = [(file, _text(file)) for file in files]
    refused = [str(file) for file, text in read if text is None]
    if refused:
        more = f" and {len(refused) - _MOST_NAMED:,} more" if len(refused) > _MOST_NAMED else ""
        raise DataError(
            f"{', '.join(refused[:_MOST_NAMED])}{more}: no plain text. Knowledge is read from UTF-8 files that end in "
            f"{', '.join(_SUFFIXES)}; convert the others or move them elsewhere."
        )
    documents = [Document(str(file), text) for file, text in read if text and text.strip()]
    if not documents:
        raise DataError(f"{path} holds no text; knowledge is read from files that end in {', '.join(_SUFFIXES)}.")
    return documents


def chunks(document: Document, longest: int = LONGEST_CHUNK) -> Iterator[str]:
    """Yield the chunks of a document, each with the headings above it and at most `longest` characters below them."""
    above: list[str] = []
    body = ""
    for paragraph in _paragraphs(document.text):
        heading = _HEADING.fullmatch(paragraph)
        if heading is None:
            for piece in _pieces(paragraph, longest):
                if body and len(body) + len(piece) + 1 > longest:
                    yield _under(above, body)
                    body = ""
                body = f"{body}\n{piece}" if body else piece
            continue
        if body:
            yield _under(above, body)
        level = len(heading.group(1))
        above, body = [*above[: level - 1], heading.group(2)], ""
    if body:
        yield _under(above, body)


def _files(folder: Path) -> list[Path]:
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in inside if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _text(file: Path) -> str | None:
    """Return the text of a file, or None where it is none."""
    if file.suffix.lower() not in _SUFFIXES:
        return None
    data = file.read_bytes()
    try:
        return None if b"\0" in data else data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs; a heading is one of its own, whether or not a blank line follows."""
    for block in _BLANK_LINES.split(text):
        rest: list[str] = []
        for line in block.strip().splitlines():
            if _HEADING.fullmatch(line.strip()):
                if rest:
                    yield "\n".join(rest)
                rest = []
                yield line.strip()
            else:
                rest.append(line.rstrip())
        if rest:
            yield "\n".join(rest)


def _pieces(paragraph: str, longest: int) -> Iterator[str]:
    """Yield a paragraph whole or, where it is too long, in sentences packed together; an endless one is cut."""
    if len(paragraph) <= longest:
        yield paragraph
        return
    piece = ""
    for sentence in _SENTENCE_END.split(paragraph):
        if piece and len(piece) + len(sentence) + 1 > longest:
            yield piece
            piece = ""
        piece = f"{piece} {sentence}" if piece else sentence
        while len(piece) > longest:
            yield piece[:longest]
            piece = piece[longest:]
    if piece:
        yield piece


def _under(headings: list[str], body: str) -> str:
    return f"{' > '.join(headings)}\n{body}" if headings else body
