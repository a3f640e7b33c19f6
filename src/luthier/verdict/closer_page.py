"""The parts of the report that look closer: learned or memorized, and where the trained model is weak."""

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.conclude import arm_name
from luthier.verdict.figures import Scale, ends, number, objects
from luthier.verdict.page import Line, clipped, folded, paragraph, section, table

_OPEN_SLICES = 12
_LONGEST_NAME = 80


def memory_and_distance(overfit: JsonValue, scale: Scale) -> str:
    """Return what the probes of overfitting found, as paragraphs and a table; nothing where there was nothing to probe."""
    found = objects(overfit)
    return _by_heart(found.get("memorized")) + _nearness(objects(found.get("nearness")), scale)


def weak_spots(slices: JsonValue, rival: str | None, scale: Scale) -> str:
    """Return the slices, worst first, with the best other arm beside; nothing without slices."""
    lines = [
        Line([
            f"{entry['by']}: {clipped(str(entry['slice']), _LONGEST_NAME)}", f"{number(entry, 'rows'):,.0f}",
            scale.score(number(entry, "score")), scale.interval(ends(entry)),
            scale.score(number(entry["others"], rival)) if rival in objects(entry["others"]) else "",
        ])
        for entry in map(objects, slices if isinstance(slices, list) else [])
    ]  # fmt: skip
    headings = ["slice", "rows", "score", "95 % interval", arm_name(rival) if rival else "others"]
    note = "Of many slices some look bad by chance: the interval of each stands beside it." if lines else ""
    rest = folded(f"{len(lines) - _OPEN_SLICES:,} more", table(headings, lines[_OPEN_SLICES:]))
    return section("Where it is weak, worst first", paragraph(note), table(headings, lines[:_OPEN_SLICES]), rest)


def _by_heart(found: JsonValue) -> str:
    memory = objects(found)
    if not memory:
        return ""
    rows, of = number(memory, "rows"), number(memory, "of")
    said = (
        f"{rows:,.0f} of the {of:,.0f} test answers of {number(memory, 'span_words'):.0f} words or more repeat a run of that many words "
        "from a training answer that was neither asked nor wanted."
    )
    example = objects(memory.get("example"))
    return paragraph(
        f'{said} The longest, {number(memory, "longest_words"):.0f} words: "{example["text"]}"' if example else said
    )


def _nearness(found: JsonObject, scale: Scale) -> str:
    if not found:
        return ""
    near, far = objects(found["near"]), objects(found["far"])
    lines = [_line(name, near, far, scale) for name in objects(near["arms"])]
    words = (
        f"The {number(near, 'rows'):,.0f} test questions most like a training question (a likeness of {number(near, 'likeness'):.2f} "
        f"on average) against the other {number(far, 'rows'):,.0f} ({number(far, 'likeness'):.2f}). An arm that trained nothing shows "
        "how much of the gap is in the questions."
    )
    return paragraph(words) + table(["arm", "near training", "far from it", "gap"], lines)


def _line(name: str, near: JsonObject, far: JsonObject, scale: Scale) -> Line:
    sides = [objects(objects(side["arms"])[name]) for side in (near, far)]
    shown = [f"{scale.score(number(side, 'score'))} ({scale.interval(ends(side))})" for side in sides]
    gap = scale.gap(number(sides[0], "score") - number(sides[1], "score"))
    return Line([arm_name(name), *shown, gap], ours=name == "tuned")
