"""What happens to each row that a finding touches: proposed by the checks, decided by a person, kept in a file.

Several checks may want something of one row. Dropping wins over setting aside, that over fixing, that over
keeping. Fixes are applied one after another: first the contents that findings propose, then the checks' own
repairs, both in the order of the checks' names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from luthier.core.errors import DataError, nearest
from luthier.core.types import Action, Content, Finding, JsonObject, JsonValue, Repair
from luthier.data.checking import Check, Repairing
from luthier.data.json_rows import parse_object
from luthier.data.problems import RowProblem

ACTIONS: tuple[Action, ...] = get_args(Action)
_STRONGEST: tuple[Action, ...] = ("drop", "set aside", "fix")


@dataclass(frozen=True, slots=True)
class Touch:
    """A finding that names a row, and what it would do about it, if anything."""

    finding: Finding
    repair: Repair | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be done with a row; for a fix its new content and the checks whose own repairs it went through."""

    action: Action
    content: Content | None = None
    repaired_by: tuple[Repairing, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of `decisions.jsonl`.

    `before` and `after` are the row in its own keys; `before` is None where the row cannot be parsed, `after`
    where nothing is written. `proposal` is an action with its `after` that waits for a person's word.
    """

    id: str
    file: str
    line: int
    action: Action
    before: JsonObject | None
    after: JsonObject | None
    proposal: JsonObject | None = None
    findings: tuple[JsonObject, ...] = ()

    def as_json(self) -> JsonObject:
        """Return the line."""
        return {
            "id": self.id, "file": self.file, "line": self.line, "action": self.action, "proposal": self.proposal,
            "findings": list(self.findings), "before": self.before, "after": self.after,
        }  # fmt: skip


def touches_by_row(findings: Iterable[Finding]) -> dict[str, list[Touch]]:
    """Map row ids to what touches them; a mere hint does not count unless it knows a repair."""
    touches: dict[str, list[Touch]] = {}
    for finding in sorted(findings, key=lambda finding: finding.check):
        repairs = {repair.row: repair for repair in finding.repairs}
        for row in finding.rows:
            repair = repairs.get(row)
            if repair is not None or finding.severity != "info":
                touches.setdefault(row, []).append(Touch(finding, repair))
    return touches


def settle(content: Content, touches: Sequence[Touch], checks: Mapping[str, Check], *, safe: bool) -> Outcome:
    """Return what is done with a row; with `safe` only what needs no person's word."""
    wanted = [touch for touch in touches if touch.repair is not None and (touch.repair.safe or not safe)]
    for action in _STRONGEST:
        chosen = [touch for touch in wanted if touch.repair is not None and touch.repair.action == action]
        if chosen and action != "fix":
            return Outcome(action)
        if chosen:
            return _fixed(content, chosen, checks)
    return Outcome("keep")


def words_of(touch: Touch) -> JsonObject:
    """Return what a person needs to know of a finding to decide about one row."""
    finding = touch.finding
    return {
        "check": finding.check, "kind": finding.kind, "severity": finding.severity, "confidence": finding.confidence,
        "detail": finding.detail, "fix": finding.fix,
    }  # fmt: skip


def read_decisions(path: Path) -> Iterator[tuple[int, Decision]]:
    """Yield the decisions of an edited file, each with its line; raise DataError for a line that decides nothing clear."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the decisions {path} cannot be read: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _decision(line, f"{path}:{number}")


def _fixed(content: Content, touches: Sequence[Touch], checks: Mapping[str, Check]) -> Outcome:
    now = content
    repaired_by: list[Repairing] = []
    for touch in sorted(touches, key=lambda touch: touch.repair is None or touch.repair.content is None):
        repair, check = touch.repair, checks.get(touch.finding.check)
        if repair is not None and repair.content is not None and now == content:
            now = repair.content
        elif isinstance(check, Repairing):
            now = check.repair(now)
            repaired_by.append(check)
    return Outcome("keep") if now == content else Outcome("fix", now, tuple(repaired_by))


def _decision(line: str, where: str) -> Decision:
    try:
        entry = parse_object(line)
    except RowProblem as problem:
        raise DataError(f"{where}: {problem.rule}: {problem.detail}. Each line is one decision as JSON.") from problem
    id, action = entry.get("id"), entry.get("action")
    if not isinstance(id, str):
        raise DataError(f"{where}: there is no row id; every line names its row under 'id'.")
    if action not in ACTIONS:
        near = nearest(action, ACTIONS) if isinstance(action, str) else ""
        raise DataError(f"{where}: unknown action {action!r}.{near} Actions are: {', '.join(ACTIONS)}.")
    file, number = entry.get("file"), entry.get("line")
    before, after = (_record(entry.get(side), side, where) for side in ("before", "after"))
    if action == "fix" and after is None:
        raise DataError(f"{where}: a fix needs the row as it shall be under 'after'.")
    return Decision(
        id, file if isinstance(file, str) else "", number if isinstance(number, int) else 0,
        cast(Action, action), before, after, findings=tuple(_findings(entry.get("findings"))),
    )  # fmt: skip


def _findings(value: JsonValue) -> Iterator[JsonObject]:
    """Yield what stands under 'findings': words for a person, who may have taken them out."""
    yield from (finding for finding in value if isinstance(finding, dict)) if isinstance(value, list) else ()


def _record(value: JsonValue, side: str, where: str) -> JsonObject | None:
    if value is not None and not isinstance(value, dict):
        raise DataError(f"{where}: {side!r} must be the row as a JSON object, or null.")
    return value
