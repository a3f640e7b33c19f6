"""The confusion matrix as a drawing: a line for each wanted label, a column for each that the model said instead.

Where there are more labels than fit, those with the most errors are drawn, and the caption says how many are left out.
"""

from collections import Counter
from collections.abc import Sequence
from html import escape

from luthier.verdict.answers import AnswerRow
from luthier.verdict.page import paragraph

MOST_LABELS = 20
_CELL, _SIDE, _TOP = 26, 190, 120
_LONGEST_LABEL = 24
_FAINTEST = 0.12
_NO_LABEL = "no label"
_OTHERS = "other labels"


def confusion_picture(rows: Sequence[AnswerRow]) -> str:
    """Return the matrix of answers whose grades hold a wanted and a predicted label; nothing for other answers or under two labels."""
    pairs = Counter(
        (str(row.grades["wanted"]), str(row.grades["predicted"]))
        for row in rows
        if {"wanted", "predicted"} <= row.grades.keys()
    )
    labels = {wanted for wanted, _ in pairs}
    if len(labels) < 2:
        return ""
    drawn = _drawn(pairs, labels)
    counts = Counter[tuple[str, str]]()
    for (wanted, predicted), times in pairs.items():
        if wanted in drawn:
            counts[wanted, _column(predicted, drawn, labels)] += times
    columns = [*drawn, *(name for name in (_OTHERS, _NO_LABEL) if any(column == name for _, column in counts))]
    left_out = (
        ""
        if len(drawn) == len(labels)
        else f" Drawn are the {len(drawn)} of {len(labels):,} labels with the most errors."
    )
    words = (
        "A line is a wanted label, a column what the tuned model said; a full cell is every row of its line." + left_out
    )
    return f"<h3>Wanted and said</h3>{_svg(counts, drawn, columns)}{paragraph(words, 'faint')}"


def _drawn(pairs: Counter[tuple[str, str]], labels: set[str]) -> list[str]:
    """Return the labels to draw, in the order of the alphabet."""
    errors = Counter[str]()
    for (wanted, predicted), times in pairs.items():
        if wanted != predicted:
            errors.update({wanted: times} | ({predicted: times} if predicted in labels else {}))
    return sorted(sorted(labels, key=lambda label: (-errors[label], label))[:MOST_LABELS])


def _column(predicted: str, drawn: Sequence[str], labels: set[str]) -> str:
    return predicted if predicted in drawn else _OTHERS if predicted in labels else _NO_LABEL


def _svg(counts: Counter[tuple[str, str]], drawn: Sequence[str], columns: Sequence[str]) -> str:
    width, height = _SIDE + _CELL * len(columns) + _TOP // 2, _TOP + _CELL * len(drawn)
    pieces = [_heading(place, name) for place, name in enumerate(columns)]
    for line, wanted in enumerate(drawn):
        total = sum(counts[wanted, column] for column in columns)
        pieces.append(_label(line, wanted))
        pieces += [
            _cell(line, place, (wanted, column), counts[wanted, column], total)
            for place, column in enumerate(columns)
            if counts[wanted, column]
        ]
    frame = f'<rect x="{_SIDE}" y="{_TOP}" width="{_CELL * len(columns)}" height="{_CELL * len(drawn)}" style="fill:none;stroke:var(--rule)"/>'
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px;width:100%" role="img" aria-label="Confusion matrix">'
        f"{''.join(pieces)}{frame}</svg>"
    )


def _cell(line: int, place: int, pair: tuple[str, str], times: int, total: int) -> str:
    """Draw one cell, the fuller the more of its line lies there; what is right is quiet, what is wrong stands out."""
    opacity = _FAINTEST + (1 - _FAINTEST) * times / total
    color = "--quiet" if pair[0] == pair[1] else "--accent"
    x, y = _SIDE + _CELL * place, _TOP + _CELL * line
    said = f"wanted {pair[0]}, said {pair[1]}: {times:,} of {total:,}"
    return (
        f'<g><title>{escape(said)}</title><rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" '
        f'style="fill:var({color});fill-opacity:{opacity:.2f}"/>'
        f'<text x="{x + _CELL / 2:g}" y="{y + _CELL / 2 + 4:g}" style="font-size:10px;text-anchor:middle;fill:var(--ink)">{times}</text></g>'
    )


def _label(line: int, name: str) -> str:
    y = _TOP + _CELL * line + _CELL / 2 + 4
    return (
        f'<text x="{_SIDE - 8}" y="{y:g}" style="font-size:11px;text-anchor:end;fill:var(--ink)">{_short(name)}</text>'
    )


def _heading(place: int, name: str) -> str:
    x, y = _SIDE + _CELL * place + _CELL / 2 + 4, _TOP - 8
    return f'<text x="{x:g}" y="{y}" transform="rotate(-50 {x:g} {y})" style="font-size:11px;fill:var(--ink)">{_short(name)}</text>'


def _short(name: str) -> str:
    """Return a label that fits beside the drawing; an answer may be anything, so it is escaped."""
    return escape(name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "\u2026")
