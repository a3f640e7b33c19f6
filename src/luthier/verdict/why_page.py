"""The part of the report that says what the answer rests on: reasons, how the test was opened, and what to do next."""

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.conclude import arm_name
from luthier.verdict.figures import Scale, number, objects
from luthier.verdict.page import paragraph, section
from luthier.verdict.tested import fold_by_fold, seed_by_seed, tested_rows


def why(verdict: JsonObject, scale: Scale) -> str:
    """Return the section, or nothing for a verdict that gives no reasons."""
    if "next" not in verdict:
        return ""
    reasons = verdict["reasons"]
    assert isinstance(reasons, list)
    return section(
        "What this rests on", *(paragraph(str(reason)) for reason in reasons), paragraph(str(verdict["next"])),
        fold_by_fold(verdict, scale), seed_by_seed(verdict, scale), paragraph(_opened(verdict, scale), "faint"),
    )  # fmt: skip


def _opened(verdict: JsonObject, scale: Scale) -> str:
    declared, looks = objects(verdict["declared"]), int(number(verdict["looks"], "count"))
    times = "once" if looks == 1 else f"{looks} times"
    clusters, test = int(number(verdict, "clusters")), tested_rows(verdict)
    margin = scale.gap(number(verdict, "margin")).lstrip("+")
    return (
        f"These test rows were looked at {times} in the runs of this folder. Declared before they were opened: {_declared(declared)}. "
        f"The {test:,} rows are {clusters:,} clusters, which are what intervals and tests draw from. "
        f"Differences under the margin of {margin} count as none."
    )


def _declared(declared: JsonObject) -> str:
    against: JsonValue = declared["against"]
    assert isinstance(against, list)
    others = ", ".join(arm_name(str(name)) for name in against) or "nothing"
    first = arm_name(str(declared["primary"])) if declared["primary"] else "no trained arm"
    return f"{first} against {others}, graded with {declared['grader']}, {declared['method']}"
