"""From the user's files to three parts: read, split, check. Every row stays accounted for."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luthier.config.settings import DataSettings
from luthier.core.errors import DataError
from luthier.core.hashing import text_hash
from luthier.core.journal import Journal, entries
from luthier.core.rundir import RunDir, write_json
from luthier.core.types import PARTS, Finding, JsonObject, Rejected, Row
from luthier.data.checking import Check, Context, RowLength
from luthier.data.deal import Origin
from luthier.data.examine import check_names, conclude, make_checks, show
from luthier.data.findings_cache import finding_json
from luthier.data.health import worst_first
from luthier.data.lookup import Lookup
from luthier.data.read import (
    ReadRecord,
    ensure_usable,
    read,
    read_records_from_python,
    read_rows_from_python,
    read_with_records,
)
from luthier.data.sources import find_sources, head_bytes
from luthier.data.split import Assignment, row_key, split
from luthier.data.store import RowWriter, read_stored
from luthier.recipes.check_words import printable
from luthier.recipes.desk import Desk
from luthier.recipes.voice import Voice

Source = str | Path | Iterable[JsonObject]
ORIGINS: tuple[Origin, ...] = ("data", "test", "validation")
_MOST_SAID = 5
_HEAD_BYTES = 1 << 18


class Ruler(Protocol):
    """Measures rows under a model's tokenizer, see `recipes/measure.py`."""

    context_length: int

    def measure(self, rows: Sequence[Row]) -> Sequence[RowLength]:
        """Return the length of each row."""
        ...


def read_stage(desk: Desk, source: Source | None) -> None:
    """Read every source into the run folder; raise DataError when too many rows are unusable.

    `source` holds rows from Python or overrides `data.path`.
    """
    sources = sources_of(source, desk.settings.data)
    assert sources["data"] is not None
    desk.run.rejected.unlink(missing_ok=True)
    num_rows, rejected = 0, Counter[str]()
    for origin in ORIGINS:
        num_usable, bad = _read_source(desk, origin, sources[origin])
        num_rows += num_usable
        rejected.update(bad)
        if origin != "data" and sources[origin] is not None and not num_usable:
            raise DataError(f"data.{origin}: {sources[origin]} holds no usable row.")
    desk.voice.say(f"read {num_rows + rejected.total():,} rows, {num_rows:,} usable" + _broken(rejected))


def _read_source(desk: Desk, origin: Origin, source: Source | None) -> tuple[int, Counter[str]]:
    first: list[Rejected] = []
    rejected = Counter[str]()
    num_rows = 0
    with RowWriter(desk.run.read_rows(origin)) as writer, Journal(desk.run.rejected) as journal:
        for row in desk.voice.track(f"read {origin}", _rows(desk, source), likely_rows(source)):
            if isinstance(row, Row):
                writer.write(row)
                num_rows += 1
                continue
            rejected[row.rule] += 1
            journal.write({"origin": origin, **asdict(row)})
            if len(first) < 3:
                first.append(row)
    if source is not None:
        ensure_usable(num_rows, rejected, desk.settings.data, first)
    return num_rows, rejected


def likely_rows(source: Source | None) -> int | None:
    """Guess how many rows files hold from their size and first lines, for the bar alone; None where that tells nothing."""
    if not isinstance(source, str | Path) or str(source).startswith("hub:"):
        return None
    likely = 0.0
    for file in find_sources(str(source)):
        head = head_bytes(file, _HEAD_BYTES)
        if b"\0" in head or b"\n" not in head:  # packed, or not in lines
            return None
        likely += file.path.stat().st_size * head.count(b"\n") / len(head)
    return int(likely)


def _rows(desk: Desk, source: Source | None) -> Iterator[Row | Rejected]:
    if source is None:
        return iter(())
    if isinstance(source, str | Path):
        return read(str(source), desk.settings.data, desk.voice.say)
    return read_rows_from_python(source, desk.settings.data, desk.voice.say)


def records(source: Source | None, settings: DataSettings) -> Iterator[ReadRecord]:
    """Yield the rows of a source once more, without a word, each beside the record that it was read from."""
    if source is None:
        return iter(())
    if isinstance(source, str | Path):
        return read_with_records(str(source), settings, lambda words: None)
    return read_records_from_python(source, settings, lambda words: None)


def sources_of(source: Source | None, settings: DataSettings) -> dict[Origin, Source | None]:
    """Return where the rows of each origin come from; `source` holds rows from Python or overrides `data.path`."""
    return {
        "data": settings.path if source is None else source, "test": settings.test, "validation": settings.validation,
    }  # fmt: skip


def split_stage(desk: Desk, refuse_hollow: bool = True) -> None:
    """Cluster the rows, deal the clusters into parts, and write the parts with their certificate.

    Without `refuse_hollow` parts may be empty.
    """
    keys = [row_key(row, origin) for origin in ORIGINS for row in read_stored(desk.run.read_rows(origin))]
    with desk.voice.bar("find near-duplicates", 1.0) as bar:
        assignment = split(
            keys, desk.settings.split, desk.settings.seed, desk.settings.data.test is not None, desk.settings.data.validation is not None,
            lambda done: bar.show(done), refuse_hollow,
        )  # fmt: skip
    del keys  # the questions of a million rows, a gigabyte that the writing does not need
    _write_parts(desk, assignment)
    write_json(desk.run.certificate, assignment.certificate)
    counts = Counter(assignment.part)
    aside = Counter(rule for rule in assignment.rule if rule)
    desk.voice.say(
        f"split into {counts['train']:,} training, {counts['validation']:,} validation and {counts['test']:,} test rows"
        + (f"; set aside: {', '.join(f'{n:,} {rule}' for rule, n in aside.most_common())}" if aside else "")
    )


def _write_parts(desk: Desk, assignment: Assignment) -> None:
    writers = {part: RowWriter(desk.run.part(part)) for part in PARTS}
    columns: dict[str, list[object]] = {
        name: [] for name in ("id", "file", "line", "origin", "part", "rule", "touched", "cluster")
    }
    for writer in writers.values():
        writer.__enter__()
    place = 0
    for origin in ORIGINS:
        for row in read_stored(desk.run.read_rows(origin)):
            part = assignment.part[place]
            if part is not None:
                writers[part].write(row)
            entry = (
                row.id,
                row.file,
                row.line,
                origin,
                part,
                assignment.rule[place],
                assignment.touched[place],
                int(assignment.cluster[place]),
            )
            for column, value in zip(columns.values(), entry, strict=True):
                column.append(value)
            place += 1
    for writer in writers.values():
        writer.__exit__(None, None, None)
    pq.write_table(pa.table(columns), desk.run.assignment)


def check_stage(desk: Desk, ruler: Ruler | None = None) -> None:
    """Let every check in `data/checks/` look at the rows; write findings.json and say the worst."""
    lookup = Lookup([desk.run.read_rows(origin) for origin in ORIGINS])
    checks = make_checks(check_names(desk.settings.check.skip), checking_context(desk, lookup, ruler))
    found = examined(checks, lookup, len(lookup), desk.voice)
    findings = worst_first(finding for of_check in found.values() for finding in of_check)
    write_json(desk.run.findings, {"findings": [finding_json(finding) for finding in findings]})
    worse = [finding for finding in findings if finding.severity != "info"]
    for finding in worse[:_MOST_SAID]:
        desk.voice.say(printable(f"  {finding.severity}: {finding.detail}"))
    if len(worse) > _MOST_SAID:
        desk.voice.say(f"  and {len(worse) - _MOST_SAID:,} more above info in {desk.run.findings.name}")


def examined(checks: Mapping[str, Check], rows: Iterable[Row], num_rows: int, voice: Voice) -> dict[str, list[Finding]]:
    """Let the checks look, with a bar over the rows and one over what they conclude."""
    found = show(checks, voice.track("check", rows, num_rows))
    with voice.bar("conclude", len(checks)) as bar:
        conclude(checks, found, bar.show)
    return found


def checking_context(desk: Desk, lookup: Lookup, ruler: Ruler | None) -> Context:
    """Return what the checks may know of the rows in a folder that were read and split."""
    return Context(
        settings=desk.settings.check, num_rows=len(lookup), read=lambda: iter(lookup), row_at=lookup.row_at,
        rejected=rejected_rows(desk.run), assignment=_assignment(desk.run),
        measure=None if ruler is None else ruler.measure,
        context_length=None if ruler is None else ruler.context_length,
        benchmarks=desk.settings.check.benchmarks, seed=desk.settings.seed,
        places=lookup.places(), num_of=dict(zip(ORIGINS, lookup.counts, strict=True)),
    )  # fmt: skip


def rejected_rows(run: RunDir) -> list[Rejected]:
    """Return the rows that could not be used."""
    fields = Rejected.__slots__
    return [Rejected(**{name: entry[name] for name in fields}) for entry in entries(run.rejected)]  # type: ignore[arg-type]  # entries were written from a record of these types


def _assignment(run: RunDir) -> Assignment | None:
    if not run.certificate.exists():
        return None
    table = pq.read_table(run.assignment, columns=["part", "rule", "touched", "cluster"]).to_pydict()
    certificate: JsonObject = json.loads(run.certificate.read_text(encoding="utf-8"))
    return Assignment(table["part"], table["rule"], table["touched"], np.array(table["cluster"]), certificate)


def _broken(rejected: Counter[str]) -> str:
    if not rejected:
        return ""
    rules = ", ".join(f"{count:,} {rule}" for rule, count in rejected.most_common(4))
    return f"; {rejected.total():,} set aside ({rules}), each kept with its file and line"


def name_of(source: Source | None) -> str:
    """Return a short name for a run on this source: the file's stem, or a hash for rows from Python."""
    if isinstance(source, str | Path):
        stem = Path(str(source).rstrip("/*")).name.partition(".")[0]
        return "".join(letter if letter.isalnum() else "-" for letter in stem.lower())[:30] or "run"
    return "rows-" + text_hash(repr(type(source)))[:4]
