"""What a check found, kept by content: the bytes of the data, the settings, and the code of the check.

A key names everything that the findings depend on, so an entry is right or is not there; nothing ever
expires and the folder may be deleted at any time. Entries are JSON: reading one runs no code.
"""

import importlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from luthier.core import parts
from luthier.core.hashing import file_hash, json_hash
from luthier.core.places import cache_folder
from luthier.core.rundir import write_json
from luthier.core.types import Finding, JsonObject, JsonValue, Repair
from luthier.data.checking import Place
from luthier.data.cluster_map import ClusterMap, cluster_map_from_json
from luthier.data.examine import CHECKS
from luthier.data.health import Excerpt
from luthier.data.store import content_from_json, content_json

_LIBRARIES = ("numpy", "pyarrow", "scikit-learn", "scipy")


@dataclass(frozen=True)
class Summary:
    """What a look at data gives beside findings; `lengths` as in a `Diagnosis`."""

    num_rows: int
    num_rejected: int
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What one check found, with the places and words of the rows that it names, and its map of the rows if it has one."""

    findings: tuple[Finding, ...]
    places: dict[str, Place]
    excerpts: dict[str, Excerpt]
    cluster_map: ClusterMap | None = None


class FindingsCache:
    """The entries for one set of data under one set of settings, in a folder on this machine."""

    def __init__(self, depends_on: JsonValue, folder: Path | None = None) -> None:
        self._folder = (folder or cache_folder()) / "findings"
        self._key = json_hash([depends_on, reading_code()])

    def summary(self) -> Summary | None:
        """Return the summary if it is known."""
        entry: dict[str, Any] | None = _read(self._path(self._key))
        try:
            return None if entry is None else Summary(entry["rows"], entry["rejected"], tuple(entry["lengths"]))
        except (KeyError, TypeError):  # written by something else
            return None

    def keep_summary(self, summary: Summary) -> None:
        """Store the summary."""
        entry: JsonObject = {
            "rows": summary.num_rows,
            "rejected": summary.num_rejected,
            "lengths": [*summary.lengths],
        }
        self._write(self._path(self._key), entry)

    def found(self, check: str) -> Found | None:
        """Return what a check found if it is known."""
        entry = _read(self._path(self._check_key(check)))
        try:
            return None if entry is None else _found(entry)
        except (KeyError, TypeError, AssertionError):
            return None

    def keep(self, check: str, found: Found) -> None:
        """Store what a check found."""
        entry: JsonObject = {
            "findings": [finding_json(finding) for finding in found.findings],
            "places": {id: [place.file, place.line] for id, place in found.places.items()},
            "excerpts": {id: [words.before, words.after] for id, words in found.excerpts.items()},
            "map": None if found.cluster_map is None else found.cluster_map.as_json(),
        }
        self._write(self._path(self._check_key(check)), entry)

    def _check_key(self, check: str) -> str:
        return json_hash([self._key, check, file_hash(code_of(check))])

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def _write(self, path: Path, entry: JsonObject) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, entry)


def code_of(check: str) -> Path:
    """Return the file that a check is written in."""
    return Path(inspect.getfile(parts.load(CHECKS, check, "Check")))


@cache
def reading_code() -> str:
    """Return a hash of all code that every check rests on: how rows are read, split, normalized and shown.

    Of the libraries whose figures end in findings the version stands for the code.
    """
    folder = Path(importlib.import_module("luthier.data").__path__[0])
    files = [*folder.glob("*.py"), *folder.glob("formats/*.py"), *(folder.parent / "core").glob("*.py")]
    versions: list[JsonValue] = [[name, version(name)] for name in _LIBRARIES]
    return json_hash([versions, *([file.name, file_hash(file)] for file in sorted(files))])


def finding_json(finding: Finding) -> JsonObject:
    """Return a finding as JSON, with its repairs."""
    return {
        "check": finding.check,
        "kind": finding.kind,
        "severity": finding.severity,
        "confidence": finding.confidence,
        "rows": [*finding.rows],
        "detail": finding.detail,
        "fix": finding.fix,
        "repairs": [_repair_json(repair) for repair in finding.repairs],
    }


def _repair_json(repair: Repair) -> JsonValue:
    content = None if repair.content is None else content_json(repair.content)
    return [repair.row, repair.action, repair.safe, content]


def _found(entry: JsonObject) -> Found:
    kept: dict[str, Any] = entry
    findings, places, excerpts, drawn = kept["findings"], kept["places"], kept["excerpts"], kept["map"]
    assert isinstance(findings, list) and isinstance(places, dict) and isinstance(excerpts, dict)
    return Found(
        tuple(_finding(finding) for finding in findings),
        {id: Place(id, *place) for id, place in places.items()},
        {id: Excerpt(*words) for id, words in excerpts.items()},
        cluster_map_from_json(drawn) if isinstance(drawn, dict) else None,
    )


def _finding(entry: JsonObject) -> Finding:
    fields: dict[str, Any] = {**entry}
    repairs, rows = fields.pop("repairs"), fields.pop("rows")
    return Finding(**fields, rows=tuple(rows), repairs=tuple(map(_repair, repairs)))


def _repair(values: Sequence[JsonValue]) -> Repair:
    kept: Sequence[Any] = values
    row, action, safe, content = kept
    return Repair(row, action, safe, None if content is None else content_from_json(content))


def _read(path: Path) -> JsonObject | None:
    try:
        value: JsonValue = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or damaged
        return None
    return value if isinstance(value, dict) else None
