"""Write the parts as files: training, validation and test, with the proof that nothing lies on two sides."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

import pyarrow.parquet as pq

from luthier.config.settings import Settings
from luthier.core.errors import DataError, ProofFailed, RunFolderError
from luthier.core.rundir import RunDir, write_json
from luthier.core.types import PARTS, JsonObject, Part, Rejected, Row
from luthier.data.ledger import Ledger
from luthier.recipes.desk import Desk
from luthier.recipes.prepare import ORIGINS, Source, read_stage, records, rejected_rows, sources_of, split_stage
from luthier.recipes.voice import Voice


def split(source: Source | None, settings: Settings, out: Path, voice: Voice) -> JsonObject:
    """Split rows as a run does and write each part to `out` as JSON lines, the rows as they were read.

    Returns the certificate, which `out` holds too, beside the ledger. `out` must be absent or empty; `source` holds rows
    from Python, in a container that can be gone through twice, or overrides `data.path`.
    """
    if source is None and settings.data.path is None:
        raise DataError("there is no data: give a file, folder or glob (data.path).")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(f"{out} is not an empty folder; choose another --out for the parts.")
    with TemporaryDirectory(prefix="luthier-split-") as folder:
        desk = Desk(RunDir(Path(folder)), settings, voice)
        desk.run.data.mkdir()
        read_stage(desk, source)
        split_stage(desk)
        certificate: JsonObject = json.loads(desk.run.certificate.read_text(encoding="utf-8"))
        out.mkdir(parents=True, exist_ok=True)
        _write_parts(desk, source, out, certificate)
    write_json(out / "certificate.json", certificate)
    voice.say(f"wrote {', '.join(f'{part}.jsonl' for part in PARTS)}, ledger.parquet and certificate.json to {out}")
    return certificate


def _write_parts(desk: Desk, source: Source | None, out: Path, certificate: JsonObject) -> None:
    """Write every usable row to the file of its part and enter every row in the ledger; raise ProofFailed if one is missing."""
    ledger = Ledger()
    written: Counter[Part] = Counter()
    places = _places(desk)
    with ExitStack() as stack:
        files: dict[Part, TextIO] = {
            part: stack.enter_context((out / f"{part}.jsonl").open("w", encoding="utf-8")) for part in PARTS
        }
        for row, record in _all_records(desk, source):
            if isinstance(row, Rejected):
                ledger.add(row.id, row.file, row.line, "dropped", rule=row.rule)
                continue
            id, part, rule, cluster = next(places)
            if id != row.id:
                raise ProofFailed(f"{row.file}:{row.line} changed while it was read; nothing can be said of the parts.")
            ledger.add(
                row.id, row.file, row.line, part or "dropped", rule=rule, cluster=None if part is None else str(cluster)
            )
            if part is not None:
                files[part].write(json.dumps(record, ensure_ascii=False) + "\n")
                written[part] += 1
    ledger.check(pq.read_metadata(desk.run.assignment).num_rows + len(rejected_rows(desk.run)))
    if {part: written[part] for part in PARTS} != certificate["rows"]:
        raise ProofFailed(f"{dict(written)} rows were written, but the split dealt {certificate['rows']}.")
    ledger.write(out / "ledger.parquet")


def _all_records(desk: Desk, source: Source | None) -> Iterator[tuple[Row | Rejected, JsonObject | None]]:
    for origin in ORIGINS:
        yield from records(sources_of(source, desk.settings.data)[origin], desk.settings.data)


def _places(desk: Desk) -> Iterator[tuple[str, Part | None, str | None, int]]:
    table = pq.read_table(desk.run.assignment, columns=["id", "part", "rule", "cluster"]).to_pydict()
    return iter(zip(table["id"], table["part"], table["rule"], table["cluster"], strict=True))
