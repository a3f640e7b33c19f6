"""From the user's files to three parts: read, split, check. Every row stays accounted for."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luthier.core import parts
from luthier.core.errors import DataError
from luthier.core.hashing import text_hash
from luthier.core.journal import Journal
from luthier.core.rundir import write_json
from luthier.core.types import PARTS, JsonObject, Rejected, Row
from luthier.data.deal import Origin
from luthier.data.read import ensure_usable, read, read_rows_from_python
from luthier.data.split import Assignment, row_key, split
from luthier.data.store import RowWriter, read_stored
from luthier.recipes.job import Job

Source = str | Path | Iterable[JsonObject]
ORIGINS: tuple[Origin, ...] = ("data", "test", "validation")


def read_stage(job: Job, source: Source | None) -> None:
    """Read every source into the run folder; raise DataError when too many rows are unusable.

    `source` holds rows from Python or overrides `data.path`.
    """
    settings = job.settings.data
    sources: dict[Origin, Source | None] = {
        "data": settings.path if source is None else source, "test": settings.test, "validation": settings.validation,
    }  # fmt: skip
    assert sources["data"] is not None
    job.run.rejected.unlink(missing_ok=True)
    num_rows, rejected = 0, Counter[str]()
    for origin in ORIGINS:
        num_usable, bad = _read_source(job, origin, sources[origin])
        num_rows += num_usable
        rejected.update(bad)
        if origin != "data" and sources[origin] is not None and not num_usable:
            raise DataError(f"data.{origin}: {sources[origin]} holds no usable row.")
    job.voice.say(f"read {num_rows + rejected.total():,} rows, {num_rows:,} usable" + _broken(rejected))


def _read_source(job: Job, origin: Origin, source: Source | None) -> tuple[int, Counter[str]]:
    first: list[Rejected] = []
    rejected = Counter[str]()
    num_rows = 0
    with RowWriter(job.run.read_rows(origin)) as writer, Journal(job.run.rejected) as journal:
        for row in job.voice.track(f"read {origin}", _rows(job, source), None):
            if isinstance(row, Row):
                writer.write(row)
                num_rows += 1
                continue
            rejected[row.rule] += 1
            journal.write({"origin": origin, **asdict(row)})
            if len(first) < 3:
                first.append(row)
    if source is not None:
        ensure_usable(num_rows, rejected, job.settings.data, first)
    return num_rows, rejected


def _rows(job: Job, source: Source | None) -> Iterator[Row | Rejected]:
    if source is None:
        return iter(())
    if isinstance(source, str | Path):
        return read(str(source), job.settings.data, job.voice.say)
    return read_rows_from_python(source, job.settings.data, job.voice.say)


def split_stage(job: Job) -> None:
    """Cluster the rows, deal the clusters into parts, and write the parts with their certificate."""
    keys = [row_key(row, origin) for origin in ORIGINS for row in read_stored(job.run.read_rows(origin))]
    with job.voice.bar("find near-duplicates", 1.0) as bar:
        assignment = split(
            keys, job.settings.split, job.settings.seed, job.settings.data.test is not None, job.settings.data.validation is not None,
            lambda done: bar.show(done),
        )  # fmt: skip
    _write_parts(job, assignment)
    write_json(job.run.certificate, assignment.certificate)
    counts = Counter(assignment.part)
    aside = Counter(rule for rule in assignment.rule if rule)
    job.voice.say(
        f"split into {counts['train']:,} training, {counts['validation']:,} validation and {counts['test']:,} test rows"
        + (f"; set aside: {', '.join(f'{n:,} {rule}' for rule, n in aside.most_common())}" if aside else "")
    )


def _write_parts(job: Job, assignment: Assignment) -> None:
    writers = {part: RowWriter(job.run.part(part)) for part in PARTS}
    columns: dict[str, list[object]] = {
        name: [] for name in ("id", "file", "line", "origin", "part", "rule", "touched", "cluster")
    }
    for writer in writers.values():
        writer.__enter__()
    place = 0
    for origin in ORIGINS:
        for row in read_stored(job.run.read_rows(origin)):
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
    pq.write_table(pa.table(columns), job.run.assignment)


def check_stage(job: Job) -> None:
    """Let every check in `data/checks/` look at the rows; write findings.json and say the worst."""
    rows = [row for origin in ORIGINS for row in read_stored(job.run.read_rows(origin))]
    table = pq.read_table(job.run.assignment).to_pydict()
    certificate: JsonObject = json.loads(job.run.certificate.read_text(encoding="utf-8"))
    assignment = Assignment(table["part"], table["rule"], table["touched"], np.array(table["cluster"]), certificate)
    findings: list[JsonObject] = []
    names = [name for name in parts.names("luthier.data.checks") if name not in job.settings.check.skip]
    for name in job.voice.track("check", names, len(names)):
        check = parts.load("luthier.data.checks", name, "Check")()
        for finding in check.find(rows, assignment):
            findings.append(json.loads(json.dumps(asdict(finding))))
    order = {"error": 0, "warning": 1, "info": 2}
    findings.sort(key=lambda finding: order[str(finding["severity"])])
    write_json(job.run.findings, {"findings": findings})  # type: ignore[dict-item]
    for finding in findings[:5]:
        if finding["severity"] != "info":
            job.voice.say(f"  {finding['severity']}: {finding['detail']}")


def _broken(rejected: Counter[str]) -> str:
    if not rejected:
        return ""
    rules = ", ".join(f"{count:,} {rule}" for rule, count in rejected.most_common(4))
    return f"; {rejected.total():,} set aside ({rules}), each with file and line in the ledger"


def name_of(source: Source | None) -> str:
    """Return a short name for a run on this source: the file's stem, or a hash for rows from Python."""
    if isinstance(source, str | Path):
        stem = Path(str(source).rstrip("/*")).name.partition(".")[0]
        return "".join(letter if letter.isalnum() else "-" for letter in stem.lower())[:30] or "run"
    return "rows-" + text_hash(repr(type(source)))[:4]
