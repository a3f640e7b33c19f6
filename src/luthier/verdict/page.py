"""Pieces of a self-contained HTML page; whatever text comes in goes out escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

# Nothing is fetched and nothing runs, even if a text got past the escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: its cells, and whether it is the tuned arm's."""

    cells: Sequence[str]
    ours: bool = False


def page(title: str, body: str) -> str:
    """Return a whole document."""
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def section(heading: str, *pieces: str) -> str:
    """Return a section under a heading, or nothing if it has no content."""
    content = "\n".join(piece for piece in pieces if piece)
    return f"<section><h2>{escape(heading)}</h2>\n{content}\n</section>\n" if content else ""


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph, or nothing without text; `kind` is a class of the style sheet."""
    if not text:
        return ""
    return f'<p class="{kind}">{typeset(text)}</p>' if kind else f"<p>{typeset(text)}</p>"


def typeset(text: str) -> str:
    """Return a sentence of ours, escaped, with the percent sign kept on the line of its figure."""
    return escape(text.replace(" %", "\u00a0%"))


def rounded_share(part: float) -> str:
    """Return a share in percent; one that is not zero does not look like zero."""
    return typeset(f"{100 * part:.1f} %" if part >= 0.001 or not part else "under 0.1 %")


def table(headings: Sequence[str], lines: Sequence[Line], words: int = 1) -> str:
    """Return a table whose first `words` columns are text and the others figures; nothing without lines."""
    if not lines:
        return ""
    kinds = ["" if column < words else ' class="n"' for column in range(len(headings))]
    head = "".join(f"<th{kind}>{escape(heading)}</th>" for kind, heading in zip(kinds, headings, strict=True))
    body = "\n".join(_line(line, kinds) for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def folded(summary: str, content: str) -> str:
    """Return content that opens on a click; nothing without content."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>" if content else ""


def preformatted(text: str) -> str:
    """Return text with its own line breaks, in a fixed-width face."""
    return f"<pre>{escape(text)}</pre>" if text else ""


def clipped(text: str, most: int) -> str:
    """Return a text of at most `most` characters and say how many were left out."""
    return text if len(text) <= most else f"{text[:most]} ... ({len(text) - most:,} more characters)"


def _line(line: Line, kinds: Sequence[str]) -> str:
    cells = "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, line.cells, strict=True))
    kind = ' class="ours"' if line.ours else ""
    return f"<tr{kind}>{cells}</tr>"
