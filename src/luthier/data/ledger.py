"""The ledger: where every input row went, exactly once, and why. The sums are checked, not assumed."""

import os
from array import array
from collections import Counter
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from luthier.core.errors import ProofFailed
from luthier.core.types import PARTS, JsonObject, Part

Fate = Literal["train", "validation", "test", "dropped", "truncated", "replay"]
FATES: tuple[Fate, ...] = ("train", "validation", "test", "dropped", "truncated", "replay")
COLUMNS = ("id", "file", "line", "fate", "rule", "part", "cluster", "tokens", "trained_tokens", "lost_tokens")


class Ledger:
    """One entry for every input row; kept by columns, about 200 bytes an entry."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._texts: dict[str, list[str | None]] = {name: [] for name in ("file", "fate", "rule", "part", "cluster")}
        self._counts: dict[str, array[int]] = {
            name: array("q") for name in ("line", "tokens", "trained_tokens", "lost_tokens")
        }

    def __len__(self) -> int:
        return len(self._ids)

    def add(
        self,
        id: str,
        file: str,
        line: int,
        fate: Fate,
        *,
        rule: str | None = None,
        part: Part | None = None,
        cluster: str | None = None,
        tokens: int = 0,
        trained_tokens: int = 0,
        lost_tokens: int = 0,
    ) -> None:
        """Enter a row's fate. A dropped row has a rule; a truncated one is in a part and lost tokens.

        Raises ProofFailed for a row that was entered before, or an entry that contradicts itself.
        """
        part = fate if part is None and fate in PARTS else part
        where = f"row {id} ({file}:{line})"
        if id in self._ids:
            raise ProofFailed(f"{where} is entered in the ledger twice; every row has one fate.")
        if fate not in FATES:
            raise ProofFailed(f"{where} has the fate {fate!r}; fates are {', '.join(FATES)}.")
        if fate in PARTS and part != fate:
            raise ProofFailed(f"{where} is {fate}, but its part is {part!r}.")
        if fate == "dropped" and not rule:
            raise ProofFailed(f"{where} is dropped without a rule that says why.")
        if fate == "truncated" and (part is None or lost_tokens <= 0):
            raise ProofFailed(f"{where} is truncated without a part and the number of tokens it lost.")
        self._ids[id] = None
        for name, text in (("file", file), ("fate", fate), ("rule", rule), ("part", part), ("cluster", cluster)):
            self._texts[name].append(text)
        counts = (("line", line), ("tokens", tokens), ("trained_tokens", trained_tokens), ("lost_tokens", lost_tokens))
        for name, count in counts:
            self._counts[name].append(count)

    def check(self, num_read: int) -> None:
        """Raise ProofFailed unless as many rows are entered as were read."""
        if len(self) != num_read:
            difference = abs(len(self) - num_read)
            way = "have no fate" if len(self) < num_read else "were entered that were never read"
            fates = ", ".join(f"{fate} {count}" for fate, count in Counter(self._texts["fate"]).items())
            raise ProofFailed(
                f"{num_read} rows were read and {len(self)} are in the ledger ({fates}): {difference} rows {way}."
            )

    def summary(self) -> JsonObject:
        """Return the number of rows read, by fate, and by rule for the dropped."""
        return summary_of(self._table())

    def write(self, path: Path) -> None:
        """Write the ledger as Parquet; the file appears whole or not at all."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        pq.write_table(self._table(), unfinished, compression="zstd")
        os.replace(unfinished, path)

    def _table(self) -> pa.Table:
        columns: dict[str, pa.Array] = {"id": pa.array(list(self._ids), pa.string())}
        columns |= {name: pa.array(texts, pa.string()) for name, texts in self._texts.items()}
        columns |= {name: pa.array(memoryview(counts), pa.int64()) for name, counts in self._counts.items()}
        return pa.table({name: columns[name] for name in COLUMNS})


def read_ledger(path: Path) -> pa.Table:
    """Return a written ledger as an Arrow table."""
    return pq.read_table(path)


def summary_of(ledger: pa.Table) -> JsonObject:
    """Return the number of rows read, by fate, and by rule for the dropped."""
    columns = ledger.select(["fate", "rule"]).to_pydict()
    fates = Counter(columns["fate"])
    dropped = Counter(rule for rule, fate in zip(columns["rule"], columns["fate"], strict=True) if fate == "dropped")
    return {
        "read": ledger.num_rows,
        **{part: fates[part] for part in PARTS},
        "dropped": {str(rule): count for rule, count in dropped.most_common()},
        "truncated": fates["truncated"],
        **({"replay": fates["replay"]} if fates["replay"] else {}),
    }
