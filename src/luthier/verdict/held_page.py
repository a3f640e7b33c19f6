"""The part of the report on a constraint: what each arm reaches with answers held to a form, and without."""

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.conclude import arm_name
from luthier.verdict.figures import Scale, ends, number, objects
from luthier.verdict.page import Line, paragraph, section, table


def held_section(found: JsonValue, scale: Scale) -> str:
    """Return the table of arms held and free; nothing where answers were not held."""
    constraint = objects(found)
    if not constraint:
        return ""
    words = (
        f"On {number(constraint, 'rows'):,.0f} validation rows every arm answered twice: held to {constraint['held_to']}, and freely. "
        "The test was answered in the first way alone. Valid are answers that are whole and of that form."
    )
    lines = [_line(name, objects(arm), scale) for name, arm in objects(constraint["arms"]).items()]
    headings = ["arm", "held", "free", "difference", "95 % interval", "valid held", "valid free"]
    return section("What holding the answers to a form does", paragraph(words), table(headings, lines))


def _line(name: str, arm: JsonObject, scale: Scale) -> Line:
    held, free = objects(arm["held"]), objects(arm["free"])
    return Line([
        arm_name(name), scale.score(number(held, "score")), scale.score(number(free, "score")), scale.gap(number(arm, "value")),
        scale.gap_interval(ends(arm)), f"{100 * number(held, 'valid'):.0f} %", f"{100 * number(free, 'valid'):.0f} %",
    ], ours=name == "tuned")  # fmt: skip
