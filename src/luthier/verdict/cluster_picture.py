"""The map of what is asked, drawn: a circle for each region, its area the number of rows, its colour what was found there.

Circles are moved apart until they do not overlap; where they stand then is the map's place as nearly as there is room.
"""

from collections.abc import Collection, Sequence
from html import escape

import numpy as np

from luthier.data.cluster_map import ClusterMap, Spot
from luthier.verdict.page import Line, folded, paragraph, rounded_share, table

STYLE = """
svg.map { margin: 1.2rem 0 .6rem; }
svg.map circle { fill: var(--quiet); fill-opacity: .3; stroke: var(--quiet); stroke-width: 1; }
svg.map .found { fill: var(--accent); stroke: var(--accent); }
svg.map text { fill: var(--ink); font-size: 11px; text-anchor: middle; pointer-events: none; paint-order: stroke;
  stroke: var(--paper); stroke-opacity: .5; stroke-width: 2.5px; }
.mapkey { display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
.shade { display: inline-block; width: .75rem; height: .75rem; margin-right: .35rem; border-radius: 50%; background: var(--accent); }
.shade.none { background: var(--quiet); opacity: .4; }
"""
_WIDTH, _HEIGHT, _MARGIN, _GAP = 640.0, 440.0, 8.0, 3.0
_FILLED = 0.42
_STEPS = 400
_SMALLEST = 3.0
_LETTER, _LINE = 5.6, 12.0
# Shares of rows with a finding, and how strongly the accent shows from there on.
_SOME = 0.001
_SHADES = ((0.0, 0.0), (_SOME, 0.25), (0.05, 0.45), (0.2, 0.65), (0.5, 0.85))


def cluster_picture(drawn: ClusterMap, found: Collection[str]) -> str:
    """Return the map with its key and its table; `found` are the ids of rows that a finding above a hint names."""
    if not drawn.num_rows:
        return ""
    spots = sorted(drawn.spots, key=lambda spot: (-len(spot.rows), spot.words))
    shares = [sum(id in found for id in spot.rows) / len(spot.rows) for spot in spots]
    radius_N = _radii([len(spot.rows) for spot in spots])
    place_N2 = _apart(np.array([[spot.x, spot.y] for spot in spots]), radius_N)
    circles = "".join(
        _circle(spot, share, x, y, radius, drawn.num_rows)
        for spot, share, (x, y), radius in zip(spots, shares, place_N2.tolist(), radius_N.tolist(), strict=True)
    )
    picture = f'<svg class="map" role="img" aria-label="regions of questions" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}">{circles}</svg>'
    return (
        _words(drawn) + picture + _key() + folded(f"The {len(spots)} regions as a table", _table(spots, shares, drawn))
    )


def _words(drawn: ClusterMap) -> str:
    sampled = "the training rows" if drawn.share == 1 else f"a sample of {drawn.num_rows:,} training rows"
    return paragraph(
        f"Regions of questions in {sampled}: the larger a circle the more rows, and near each other stand regions with like words. The "
        "axes mean nothing. A circle's words and an example show where the pointer rests on it."
    )


def _radii(counts: Sequence[int]) -> np.ndarray:
    """Return radii whose circles fill a part of the picture, in areas like the counts."""
    share_N = np.array(counts) / sum(counts)
    return np.maximum(_SMALLEST, np.sqrt(share_N * _FILLED * _WIDTH * _HEIGHT / np.pi))


def _apart(place_N2: np.ndarray, radius_N: np.ndarray) -> np.ndarray:
    """Return places in the picture at which no two circles overlap, or hardly; the larger of two moves less."""
    room_N2 = np.stack([_WIDTH - 2 * (_MARGIN + radius_N), _HEIGHT - 2 * (_MARGIN + radius_N)], axis=1)
    low_N2 = np.stack([_MARGIN + radius_N, _MARGIN + radius_N], axis=1)
    at_N2 = low_N2 + place_N2 * room_N2
    weight_NN = radius_N[None] ** 2 / (radius_N[:, None] ** 2 + radius_N[None] ** 2)
    # Two circles that have come to lie in one place still know in which direction to part.
    turn_N = 2.4 * np.arange(len(radius_N))
    nudge_N2 = np.stack([np.cos(turn_N), np.sin(turn_N)], axis=1) / 10
    for _ in range(_STEPS):
        between_NN2 = (at_N2 + nudge_N2)[:, None] - (at_N2 + nudge_N2)[None]
        distance_NN = np.linalg.norm(between_NN2, axis=2)
        overlap_NN = radius_N[:, None] + radius_N[None] + _GAP - distance_NN
        np.fill_diagonal(overlap_NN, 0)
        if overlap_NN.max(initial=0) <= 0:
            break
        push_NN = np.maximum(0, overlap_NN) * weight_NN / np.maximum(distance_NN, 1e-9)
        at_N2 = np.clip(at_N2 + (push_NN[:, :, None] * between_NN2).sum(axis=1), low_N2, low_N2 + room_N2)
    return at_N2


def _circle(spot: Spot, share: float, x: float, y: float, radius: float, total: int) -> str:
    rows = f"{len(spot.rows):,} rows ({rounded_share(len(spot.rows) / total)}), {rounded_share(share)} with findings"
    tip = escape(f"{spot.words}: {rows}. For example: {spot.shown}")
    kind = f' class="found" style="fill-opacity:{_shade(share):g}"' if share else ""
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"{kind}><title>{tip}</title></circle>'
    return circle + _label(spot, x, y, radius)


def _shade(share: float) -> float:
    return [shade for least, shade in _SHADES if max(share, _SOME) >= least][-1]


def _label(spot: Spot, x: float, y: float, radius: float) -> str:
    """Return as many of the telling words as fit into the circle, a line each; nothing where none fits."""
    words = [word for word in spot.words.split() if len(word) * _LETTER < 1.8 * radius][: int(1.5 * radius / _LINE)]
    first = y - _LINE * (len(words) - 1) / 2 + _LINE / 3
    return "".join(
        f'<text x="{x:.1f}" y="{first + line * _LINE:.1f}">{escape(word)}</text>' for line, word in enumerate(words)
    )


def _key() -> str:
    """Return what the colours mean."""
    some, *more = (
        f'<span><i class="shade" style="opacity:{shade:g}"></i>{{}}</span>'.format(
            f"from {least:.0%}" if least > _SOME else "some"
        )
        for least, shade in _SHADES[1:]
    )
    return (
        '<p class="faint mapkey"><span>Rows with a finding above a hint:</span> '
        f'<span><i class="shade none"></i>none</span>{some}{"".join(more)}</p>'
    )


def _table(spots: Sequence[Spot], shares: Sequence[float], drawn: ClusterMap) -> str:
    lines = [
        Line(
            [
                spot.words,
                spot.shown,
                f"{len(spot.rows):,}",
                rounded_share(len(spot.rows) / drawn.num_rows),
                rounded_share(share),
            ]
        )
        for spot, share in zip(spots, shares, strict=True)
    ]
    return table(["words", "for example", "rows", "share", "with findings"], lines, words=2)
