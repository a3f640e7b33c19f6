"""Drawings of the report, as SVG that scales with the page: loss curves, and scores with their intervals.

Positions are percentages and lines keep their width, so a drawing reads the same on a phone and on
paper. Colours come from the style sheet's classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from luthier.core.types import JsonObject

_MOST_POINTS = 240
_LOG_FROM = 8.0
_PLOT = (7.0, 99.0, 4.0, 88.0)  # left, right, top and bottom of the plot in percent of the drawing


@dataclass(frozen=True, slots=True)
class Point:
    """A loss after a step."""

    step: int
    loss: float


def loss_points(entries: Sequence[JsonObject], key: str) -> list[Point]:
    """Read a curve from the lines of metrics.jsonl: `loss` or `validation_loss`, hex floats or numbers."""
    return [Point(int(str(entry["step"])), _number(entry[key])) for entry in entries if entry.get(key) is not None]


def loss_curves(training: Sequence[Point], validation: Sequence[Point]) -> str:
    """Draw the training loss (means over stretches of steps) and the validation loss; empty without points."""
    drawn = _means(training, _MOST_POINTS)
    points = [*drawn, *validation]
    if len(points) < 2:
        return ""
    low, high = min(point.loss for point in points), max(point.loss for point in points)
    logarithmic = low > 0 and high / low > _LOG_FROM
    x = _axis(0, max(point.step for point in points), _PLOT[0], _PLOT[1])
    y = _axis(*((math.log(low), math.log(high)) if logarithmic else (low, high)), _PLOT[3], _PLOT[2])
    height = (lambda loss: y(math.log(loss))) if logarithmic else y
    words = (
        f"Loss over steps: training from {drawn[0].loss:.3f} to {drawn[-1].loss:.3f}" if drawn else "Validation loss"
    )
    marks = [f'<circle class="dot" cx="{x(p.step):.2f}%" cy="{height(p.loss):.2f}%" r="3"/>' for p in validation]
    return (
        f'<svg class="curves" role="img" aria-label="{escape(words)}">'
        + "".join(_level(loss, height(loss)) for loss in _levels(low, high, logarithmic))
        + "".join(_step_label(step, x(step)) for step in _ticks(0, max(point.step for point in points)))
        + '<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">'
        + _line("quiet", [(x(point.step), height(point.loss)) for point in drawn])
        + _line("accent", [(x(point.step), height(point.loss)) for point in validation])
        + "</svg>"
        + "".join(marks)
        + "</svg>"
    )


def dot_interval(score: float, interval: tuple[float, float], ends: tuple[float, float], accent: bool) -> str:
    """Draw one score with its interval on an axis that runs between `ends`."""
    x = _axis(*ends, 2, 98)
    low, high = interval
    kind = "accent" if accent else "quiet"
    return (
        f'<svg class="interval {kind}" aria-hidden="true">'
        f'<line class="rule" x1="2%" x2="98%" y1="50%" y2="50%"/>'
        f'<line class="range" x1="{x(low):.2f}%" x2="{x(high):.2f}%" y1="50%" y2="50%"/>'
        f'<circle cx="{x(score):.2f}%" cy="50%" r="3.5"/></svg>'
    )


def axis_scale(ends: tuple[float, float], written: Callable[[float], str]) -> str:
    """Draw the numbers under a column of `dot_interval`."""
    x = _axis(*ends, 2, 98)
    anchors = ("start", "middle", "end")
    places = (ends[0], (ends[0] + ends[1]) / 2, ends[1])
    labels = [
        f'<text x="{x(place):.2f}%" y="12" text-anchor="{anchor}">{escape(written(place))}</text>'
        for place, anchor in zip(places, anchors, strict=True)
    ]
    return f'<svg class="scale" aria-hidden="true">{"".join(labels)}</svg>'


def axis_ends(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return a round axis that holds all intervals with some air."""
    low, high = min(ends[0] for ends in intervals), max(ends[1] for ends in intervals)
    unit = _round_step((high - low) or abs(high) or 1.0)
    return math.floor(low / unit) * unit, math.ceil(high / unit) * unit


def _number(value: object) -> float:
    return float.fromhex(value) if isinstance(value, str) else float(str(value))


def _means(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` points, each the mean of as many neighbours, at the last step of its stretch."""
    width = max(1, math.ceil(len(points) / most))
    stretches = [points[start : start + width] for start in range(0, len(points), width)]
    return [Point(part[-1].step, sum(point.loss for point in part) / len(part)) for part in stretches]


def _axis(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _round_step(span: float) -> float:
    """Return 1, 2 or 5 times a power of ten that goes into the span about five times."""
    raw = span / 5
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)


def _ticks(low: float, high: float) -> list[float]:
    unit = _round_step((high - low) or 1.0)
    first = math.ceil(low / unit)
    return [unit * place for place in range(first, math.floor(high / unit) + 1)]


def _levels(low: float, high: float, logarithmic: bool) -> list[float]:
    if not logarithmic:
        return _ticks(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]


def _level(loss: float, y: float) -> str:
    left, right, *_ = _PLOT
    return (
        f'<line class="rule" x1="{left}%" x2="{right}%" y1="{y:.2f}%" y2="{y:.2f}%"/>'
        f'<text x="{left - 1}%" y="{y:.2f}%" dy="4" text-anchor="end">{loss:.3g}</text>'
    )


def _step_label(step: float, x: float) -> str:
    return f'<text x="{x:.2f}%" y="97%" text-anchor="middle">{step:,.0f}</text>'


def _line(kind: str, points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return f'<polyline class="{kind}" points="{path}" vector-effect="non-scaling-stroke"/>' if len(points) > 1 else ""
