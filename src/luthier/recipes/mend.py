"""`luthier check --fix`: write the rows anew, mended, and say of every touched row what was done with it.

Three files: the rows that stay, in their own keys, as JSON lines; beside them those that are set aside; and
`decisions.jsonl`, which a person can edit and hand back. Every row that was read ends in exactly one of:
written as it is, fixed, dropped, set aside. The sums are checked, and what was written is read back.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from luthier.config.settings import DataSettings, Settings
from luthier.core.errors import DataError, ProofFailed
from luthier.core.types import Action, Content, JsonObject, Rejected, Row
from luthier.data.checking import Check
from luthier.data.decisions import Decision, Outcome, Touch, read_decisions, settle, touches_by_row, words_of
from luthier.data.examine import check_names
from luthier.data.health import Diagnosis
from luthier.data.raw_lines import RawLines
from luthier.data.read import ReadRecord, read, read_records_from_python
from luthier.data.rewrite import Change, rewritten
from luthier.data.sources import find_sources
from luthier.recipes.check import Look, diagnosis, looking
from luthier.recipes.prepare import Source, records
from luthier.recipes.voice import Voice

DECISIONS = "decisions.jsonl"
_AT_ONCE = 500
_HUB = "hub:"
_FATES: dict[Action, str] = {"keep": "as_is", "fix": "fixed", "drop": "dropped", "set aside": "set_aside"}

Sums = dict[str, int]
Decided = tuple[Row | Rejected, JsonObject | None, Decision | None]


def check_and_fix(source: Source | None, settings: Settings, out: Path, voice: Voice) -> tuple[Diagnosis, Sums]:
    """Check data anew and write the rows mended to `out`; return what was found and what was done."""
    names = check_names(settings.check.skip)
    with looking(source, settings, voice, names) as look:
        ensure_writable(out, look.desk.settings.data)
        sums = fix(look, source, out, voice)
        return diagnosis(look.summary, look.found, settings), sums


def fix(look: Look, source: Source | None, out: Path, voice: Voice) -> Sums:
    """Apply the safe repairs, propose the others; return how many rows were read, and how many ended where.

    Only rows of the data are written, never those of the test and validation files.
    """
    settings = look.desk.settings.data
    findings = [finding for found in look.found.values() for finding in found.findings]
    touches = touches_by_row(findings)
    with _Writing(out, _raw_lines(source, settings)) as writing:
        stream = voice.track("write", records(settings.path if source is None else source, settings), None)
        for chunk in _chunks(stream):
            for row, record, decision in _decide(chunk, touches, look.checks, settings):
                writing.write(row, record, decision)
                if decision is not None:
                    writing.note(decision)
        writing.keep_decisions()
    return _told(writing, out, settings, voice)


def apply(settings: DataSettings, decisions: Path, out: Path, voice: Voice) -> Sums:
    """Do with each row what an edited file of decisions says, and leave all others as they are; return the sums.

    No check looks at the data again: a row without a decision is written as it is, one that cannot be read is set aside.
    Raises DataError naming the line of a decision that does not fit the data; nothing is written then.
    """
    if settings.path is None:
        raise DataError("there is no data: give a file, folder or glob (data.path).")
    ensure_writable(out, settings)
    decided = _read_fitting(decisions, settings)
    with _Writing(out, _raw_lines(None, settings)) as writing:
        for row, record in records(settings.path, settings):
            number, decision = decided.pop(row.id, (0, None))
            if decision is not None and decision.before != record:
                raise DataError(
                    f"{decisions}:{number}: {row.file}:{row.line} no longer reads as it stands under 'before'; look at the "
                    "data again with --fix and decide anew."
                )
            if record is None and decision is not None and decision.action == "keep":
                raise DataError(f"{decisions}:{number}: {row.file}:{row.line} cannot be kept, for it cannot be read.")
            writing.write(row, record, decision)
        if decided:
            id, (number, _) = next(iter(decided.items()))
            raise DataError(f"{decisions}:{number}: no row of the data has the id {id!r}.")
    return _told(writing, out, settings, voice)


def ensure_writable(out: Path, settings: DataSettings) -> None:
    """Raise DataError unless rows can be written to `out` without touching what is read."""
    if out.suffix != ".jsonl":
        raise DataError(f"{out}: rows are written as JSON lines; give a file that ends in .jsonl.")
    for path in (settings.path, settings.test, settings.validation):
        if path is None or path.startswith(_HUB):
            continue
        inside = Path(path).is_dir() and out.resolve().is_relative_to(Path(path).resolve())
        if inside or any(source.path.resolve() == out.resolve() for source in find_sources(path)):
            raise DataError(f"{out} is or lies in what is read; write the mended rows elsewhere.")


def set_aside_path(out: Path) -> Path:
    """Return where the rows are written that are set aside: beside `out`."""
    return out.with_suffix(".set-aside.jsonl")


class _Writing:
    """Two files of rows that appear whole, with their counts, when the block ends well; else nothing changes."""

    def __init__(self, out: Path, raw_lines: RawLines | None) -> None:
        self._raw_lines = raw_lines
        self.sums: Counter[str] = Counter()
        self._decisions = out.with_name(DECISIONS)
        self._paths = (out, set_aside_path(out))
        self._unfinished: dict[Path, Path] = {
            path: path.with_name(f".{path.name}.{os.getpid()}") for path in (*self._paths, self._decisions)
        }

    def __enter__(self) -> "_Writing":
        self._paths[0].parent.mkdir(parents=True, exist_ok=True)
        self._rows, self._aside, self._noted = (path.open("w", encoding="utf-8") for path in self._unfinished.values())
        self._keep_decisions = False
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for stream in (self._rows, self._aside, self._noted):
            stream.close()
        try:
            if kind is None:
                self._finish()
        finally:
            for path in self._unfinished.values():
                path.unlink(missing_ok=True)

    def write(self, row: Row | Rejected, record: JsonObject | None, decision: Decision | None) -> None:
        """Write one row where it belongs and count it."""
        action: Action = "set aside" if isinstance(row, Rejected) else "keep"
        if decision is not None:
            action = decision.action
            record = decision.after if action == "fix" else record
        self.sums["read"] += 1
        self.sums[_FATES[action]] += 1
        if action in ("keep", "fix"):
            assert record is not None
            self._rows.write(json.dumps(record, ensure_ascii=False) + "\n")
        elif action == "set aside":
            text = None
            if record is None and self._raw_lines is not None:
                text = self._raw_lines.text_at(row.file, row.line)
            self._aside.write(json.dumps(_aside(row, record, text, decision), ensure_ascii=False) + "\n")

    def note(self, decision: Decision) -> None:
        """Write a decision down."""
        self._noted.write(json.dumps(decision.as_json(), ensure_ascii=False) + "\n")

    def keep_decisions(self) -> None:
        """Let the decisions appear too; raise DataError rather than write over others, which somebody may have edited."""
        self._noted.flush()
        if self._decisions.exists() and self._decisions.read_bytes() != self._unfinished[self._decisions].read_bytes():
            raise DataError(
                f"{self._decisions} is there already and says something else. Apply it with --decisions {self._decisions}, "
                "or move it away."
            )
        self._keep_decisions = True

    def _finish(self) -> None:
        ends = sum(self.sums[fate] for fate in _FATES.values())
        if ends != self.sums["read"]:
            raise ProofFailed(f"{self.sums['read']} rows were read, but {ends} ended somewhere; nothing was written.")
        for path in (*self._paths, *([self._decisions] if self._keep_decisions else [])):
            os.replace(self._unfinished[path], path)


def _decide(
    chunk: Sequence[ReadRecord], touches: Mapping[str, list[Touch]], checks: Mapping[str, Check], settings: DataSettings
) -> Iterator[Decided]:
    """Yield each row with what is done with it; rows that nothing touches come without a decision."""
    outcomes: dict[str, tuple[Outcome, Outcome]] = {}
    changes: dict[tuple[str, bool], Change] = {}
    for row, record in chunk:
        if isinstance(row, Row) and row.id in touches and record is not None:
            both = [settle(row.content, touches[row.id], checks, safe=safe) for safe in (True, False)]
            outcomes[row.id] = (both[0], both[1])
            for safe, outcome in zip((True, False), both):
                if outcome.content is not None:
                    changes[row.id, safe] = Change(record, row.content, outcome.content, outcome.repaired_by)
    after = dict(zip(changes, rewritten(list(changes.values()), lambda rows: _contents(rows, settings)), strict=True))
    for row, record in chunk:
        if isinstance(row, Rejected):
            yield row, record, _rejected(row, record, touches.get(row.id, ()))
        elif row.id in outcomes:
            written = after.get((row.id, True)), after.get((row.id, False))
            yield row, record, _decision(row, record, touches[row.id], outcomes[row.id], written)
        else:
            yield row, record, None


def _decision(
    row: Row, record: JsonObject | None, touches: Sequence[Touch], outcomes: tuple[Outcome, Outcome],
    written: tuple[JsonObject | None, JsonObject | None],
) -> Decision:  # fmt: skip
    """Return what is done with a row; a fix that cannot be written in a form that is read again is not done."""
    (safe, full), (after, proposed) = outcomes, written
    action: Action = "keep" if safe.action == "fix" and after is None else safe.action
    proposal: JsonObject | None = {"action": full.action, "after": proposed}
    nothing_more = full.action == "keep" or (full.action, full.content) == (safe.action, safe.content)
    if nothing_more or (full.action == "fix" and proposed is None):
        proposal = None
    findings = tuple(map(words_of, touches))
    return Decision(row.id, row.file, row.line, action, record, after, proposal, findings)


def _rejected(row: Rejected, record: JsonObject | None, touches: Iterable[Touch]) -> Decision:
    reason: JsonObject = {"rule": row.rule, "detail": row.detail}
    return Decision(
        row.id, row.file, row.line, "set aside", record, None, None, (reason, *(words_of(touch) for touch in touches))
    )


def _contents(rows: Sequence[JsonObject], settings: DataSettings) -> list[Content | None]:
    """Return what records are read as, None for those that cannot be read."""
    try:
        read_back = list(read_records_from_python(rows, settings, lambda words: None))
    except DataError:  # none of them has a shape that is known under these settings
        return [None] * len(rows)
    return [row.content if isinstance(row, Row) else None for row, _ in read_back]


def _read_fitting(path: Path, settings: DataSettings) -> dict[str, tuple[int, Decision]]:
    """Return decisions and their lines by row id; raise DataError for one given twice, or a fix that is no usable row."""
    decided: dict[str, tuple[int, Decision]] = {}
    for number, decision in read_decisions(path):
        if decision.id in decided:
            raise DataError(
                f"{path}:{number}: the row {decision.id} is decided a second time, first in line {decided[decision.id][0]}."
            )
        decided[decision.id] = (number, decision)
    fixes = [(number, decision.after) for number, decision in decided.values() if decision.action == "fix"]
    for (number, after), content in zip(fixes, _contents([after for _, after in fixes if after], settings)):
        if content is None:
            raise DataError(
                f"{path}:{number}: the row under 'after' cannot be read as a row: {json.dumps(after, ensure_ascii=False)[:200]}"
            )
    return decided


def _raw_lines(source: Source | None, settings: DataSettings) -> RawLines | None:
    path = settings.path if source is None else source
    return RawLines(str(path), settings) if isinstance(path, str | Path) and not str(path).startswith(_HUB) else None


def _aside(row: Row | Rejected, record: JsonObject | None, text: str | None, decision: Decision | None) -> JsonObject:
    """Return a line of the rows that are set aside; one that cannot be parsed keeps its text."""
    reasons = decision.findings if decision is not None else ()
    rule: JsonObject = {"rule": row.rule, "detail": row.detail} if isinstance(row, Rejected) else {}
    return {
        "id": row.id, "file": row.file, "line": row.line, **rule,
        "because": [reason["kind"] for reason in reasons if "kind" in reason], "row": record,
        **({"text": text} if record is None else {}),
    }  # fmt: skip


def _told(writing: _Writing, out: Path, settings: DataSettings, voice: Voice) -> Sums:
    """Read back what was written, say the sums, and return them; raise ProofFailed where a row cannot be read again."""
    sums = {name: writing.sums[name] for name in ("read", *_FATES.values())}
    written = sums["as_is"] + sums["fixed"]
    if written:
        plain = settings.model_copy(update={"encoding": None, "delimiter": None})
        usable = sum(isinstance(row, Row) for row in read(str(out), plain, lambda words: None))
        if usable != written:
            raise ProofFailed(
                f"{written} rows were written to {out}, but {usable} can be read back. Name the columns with --input and "
                "--output, or check one file at a time."
            )
    voice.say(
        f"{sums['read']:,} rows: {sums['as_is']:,} written as they are, {sums['fixed']:,} fixed, {sums['dropped']:,} dropped, "
        f"{sums['set_aside']:,} set aside"
    )
    voice.say(f"{out}: {written:,} rows, all read back; {set_aside_path(out)}: {sums['set_aside']:,}")
    return sums


def _chunks(stream: Iterator[ReadRecord]) -> Iterator[list[ReadRecord]]:
    while chunk := list(islice(stream, _AT_ONCE)):
        yield chunk
