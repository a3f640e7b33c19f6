"""The report's drawing of calibration: how sure the tuned model was, and how often it was right then."""

from html import escape

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.figures import number, objects
from luthier.verdict.page import paragraph, section

_LEFT, _TOP, _SIZE, _BOTTOM = 66.0, 12.0, 300.0, 46.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibration_section(found: JsonValue) -> str:
    """Return the reliability curve with its sentence; nothing where confidence is not known."""
    calibration = objects(found)
    if not calibration:
        return ""
    groups = [objects(group) for group in _list(calibration["groups"])]
    surest = objects(calibration["right_among_surest"])
    right = {share: f"{100 * number(surest, share):.1f} %" for share in surest}
    words = (
        f"The half of the answers that the tuned model was surest of is right in {right['half']}, the surest quarter in {right['quarter']}, all "
        f"of them in {right['all']}. Its probability of an answer is off by {100 * number(calibration, 'error'):.1f} points on average "
        f"({number(calibration, 'rows'):,.0f} answers; right means a full score)."
    )
    note = (
        "A dot is a tenth of the answers, fewer where rows are few: across, the mean probability that the model gave to its answers; "
        "up, the share that is right. Below the line it is surer than it should be, above it less sure."
    )
    return section("Does it know when it is right?", paragraph(words), _curve(groups), paragraph(note, "faint"))


def _curve(groups: list[JsonObject]) -> str:
    places = [(_x(number(group, "confidence")), _y(number(group, "right"))) for group in groups]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(_dot(group, *place) for group, place in zip(groups, places, strict=True))
    width, height = _LEFT + _SIZE + 16, _TOP + _SIZE + _BOTTOM
    return (
        f'<svg class="reliability" role="img" aria-label="Share of right answers by confidence" viewBox="0 0 {width:g} {height:g}">'
        + "".join(map(_tick, _TICKS))
        + f'<line class="ideal" x1="{_x(0):g}" y1="{_y(0):g}" x2="{_x(1):g}" y2="{_y(1):g}"/>'
        + f'<polyline points="{line}"/>{dots}'
        + f'<text x="{_x(0.5):g}" y="{height - 8:g}" text-anchor="middle">how sure it was</text>'
        + f'<text x="10" y="{_y(0.5):g}" text-anchor="middle" transform="rotate(-90 10 {_y(0.5):g})">share that is right</text></svg>'
    )


def _tick(share: float) -> str:
    written = f"{100 * share:.0f}\u00a0%"
    return (
        f'<line class="rule" x1="{_x(0):g}" x2="{_x(1):g}" y1="{_y(share):g}" y2="{_y(share):g}"/>'
        f'<text x="{_LEFT - 6:g}" y="{_y(share) + 4:g}" text-anchor="end">{written}</text>'
        f'<text x="{_x(share):g}" y="{_TOP + _SIZE + 17:g}" text-anchor="middle">{written}</text>'
    )


def _dot(group: JsonObject, x: float, y: float) -> str:
    said = (
        f"{number(group, 'rows'):,.0f} answers: {100 * number(group, 'confidence'):.1f} % sure, "
        f"{100 * number(group, 'right'):.1f} % right"
    )
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(said)}</title></circle>'


def _x(share: float) -> float:
    return _LEFT + _SIZE * share


def _y(share: float) -> float:
    return _TOP + _SIZE * (1 - share)


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
