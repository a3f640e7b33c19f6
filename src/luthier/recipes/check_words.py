"""A diagnosis for a person on the screen, and as JSON for a program."""

from collections.abc import Iterator

from luthier.core.types import Finding, JsonObject, JsonValue
from luthier.data.health import Diagnosis, Kind, limits_by_dimension

_EXAMPLES = 3
_LABEL = 9


def as_json(diagnosis: Diagnosis) -> JsonObject:
    """Return the number of rows, the health by dimension, and every finding with its rows by file and line."""
    return {
        "rows": diagnosis.num_rows,
        "health": {name: None if share is None else round(share, 6) for name, share in diagnosis.health.items()},
        "findings": [_finding(diagnosis, finding) for finding in diagnosis.findings],
    }


def as_text(diagnosis: Diagnosis) -> str:
    """Return health, then each kind of finding, worst first, with examples and what to do."""
    usable = diagnosis.num_rows - diagnosis.num_rejected
    blocks = [f"{diagnosis.num_rows:,} rows, {usable:,} usable", "\n".join(_health(diagnosis))]
    blocks += ["\n".join(_kind(diagnosis, kind)) for kind in diagnosis.kinds]
    return printable("\n\n".join([*blocks, conclusion(diagnosis)]))


def conclusion(diagnosis: Diagnosis) -> str:
    """Return the outcome in one sentence."""
    if diagnosis.crossed:
        names = ", ".join(name.replace("_", "-") for name in diagnosis.crossed)
        return (
            f"Below the limit: {names}. The limits are settings, such as --set check.limits.{diagnosis.crossed[0]}=0.5"
        )
    if not diagnosis.findings:
        return "Nothing was found."
    return "Healthy: every dimension is within its limit."


def printable(text: str) -> str:
    """Write control and direction characters as their numbers: a terminal obeys them, and a finding may quote them."""
    return "".join(letter if letter.isprintable() or letter == "\n" else f"<U+{ord(letter):04X}>" for letter in text)


def share(count: int, total: int) -> str:
    """Return a share for a person; one that is not zero does not look like zero."""
    part = count / total if total else 0.0
    return f"{100 * part:.1f} %" if part >= 0.001 or not count else "under 0.1 %"


def _health(diagnosis: Diagnosis) -> Iterator[str]:
    limits = limits_by_dimension(diagnosis.limits)
    yield f"{'health':<14}{'':>9}{'limit':>10}"
    for name, health in diagnosis.health.items():
        words = name.replace("_", "-")
        if health is None:
            yield f"{words:<14}{'not looked at':>19}"
            continue
        below = "  below" if health < limits[name] else ""
        yield f"{words:<14}{_percent(health):>9}{_percent(limits[name]):>10}{below}"


def _percent(part: float) -> str:
    # Never round up to a health that the data do not have.
    return "100 %" if part == 1 else f"{int(part * 1000) / 10:.1f} %"


def _kind(diagnosis: Diagnosis, kind: Kind) -> Iterator[str]:
    num_rows, num_found = len(kind.rows), len(kind.findings)
    times = f" in {num_found:,} findings" if num_found > 1 else ""
    counted = f"{num_rows:,} {'row' if num_rows == 1 else 'rows'} ({share(num_rows, diagnosis.num_rows)}){times}"
    yield f"{kind.severity.upper():<{_LABEL}}{kind.check}: {kind.kind}, {counted if num_rows else 'of the whole set'}"
    yield f"{'':<{_LABEL}}{_sentence(diagnosis.checks[kind.check].effect)}"
    for finding in kind.findings[:_EXAMPLES]:
        yield f"{'':<{_LABEL}}- {finding.detail}"
        if num_found < _EXAMPLES:
            yield from _words(diagnosis, finding)
    if num_found > _EXAMPLES:
        yield f"{'':<{_LABEL}}- and {num_found - _EXAMPLES:,} more"
    yield f"{'':<{_LABEL}}Fix: {kind.findings[0].fix}"


def _words(diagnosis: Diagnosis, finding: Finding) -> Iterator[str]:
    for id in finding.rows[:_EXAMPLES]:
        words = diagnosis.excerpts.get((finding.check, id))
        if words is not None:
            yield f"{'':<{_LABEL}}    {diagnosis.places[id]}  {words.before!r}"
            if words.after is not None:
                yield f"{'':<{_LABEL}}    {'':>{len(str(diagnosis.places[id]))}}  {words.after!r} after the fix"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


def _finding(diagnosis: Diagnosis, finding: Finding) -> JsonObject:
    return {
        "check": finding.check, "kind": finding.kind, "severity": finding.severity, "confidence": finding.confidence,
        "rows": [_place(diagnosis, id) for id in finding.rows], "detail": finding.detail, "fix": finding.fix,
    }  # fmt: skip


def _place(diagnosis: Diagnosis, id: str) -> JsonValue:
    place = diagnosis.places[id]
    return {"file": place.file, "line": place.line, "id": id}
