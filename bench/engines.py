"""Which engine serves the checks: ours beside pyarrow, polars and duckdb, at the two things an engine could do for us.

    pip install polars duckdb                   first, to have their rows in the table
    python bench/engines.py                     50,000 rows of bench/rows.py, 1,000,000 keys
    python bench/engines.py --page              only the tables of docs/decisions/0008-engine.md

`read` turns a file of JSON lines into rows; the engines make columns of it, ours checks every row besides and names the
place and the rule of those that it cannot use. The same file with one broken line in the middle shows what is left of it.
`group` finds the copies among a million 64-bit keys of which a fiftieth stand twice. CPU seconds of the whole process count, with
all threads, and each task has a process of its own. The result is bench/results/engines.json.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.json
from pages import table, with_block
from rows import write

from luthier.config.settings import DataSettings
from luthier.core.hardware import processor, usable_cores
from luthier.core.hashing import generator
from luthier.core.rundir import write_json
from luthier.core.types import JsonObject, Row
from luthier.data.checks.duplicates import groups_of_equals
from luthier.data.read import read

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "engines.json"
PAGE = ROOT / "docs" / "decisions" / "0008-engine.md"
ENGINES = ("luthier", "pyarrow", "polars", "duckdb")
ROWS, KEYS = 50_000, 1_000_000
_BROKEN = '{"messages": [{"role": "user", "content": "half a li\n'


def read_luthier(path: Path) -> int:
    """Read rows as every command does; the broken one comes with its place."""
    return sum(isinstance(row, Row) for row in read(str(path), DataSettings(), lambda words: None))


def read_pyarrow(path: Path) -> int:
    """Read with Arrow's own reader of JSON lines."""
    return pyarrow.json.read_json(path).num_rows


def read_polars(path: Path) -> int:
    """Read with polars."""
    import polars  # type: ignore[import-not-found]

    return polars.read_ndjson(path).height


def read_duckdb(path: Path) -> int:
    """Read with duckdb, into memory."""
    import duckdb  # type: ignore[import-not-found]

    return duckdb.read_json(str(path), format="newline_delimited").to_arrow_table().num_rows


def group_luthier(keys_N: np.ndarray) -> int:
    """Sort with numpy, as the check for duplicates does."""
    return sum(1 for _ in groups_of_equals(keys_N))


def group_pyarrow(keys_N: np.ndarray) -> int:
    """Group with Arrow's own hash table."""
    columns = pa.table({"key": keys_N, "place": np.arange(len(keys_N))})
    grouped = columns.group_by("key").aggregate([("place", "list")])
    return sum(1 for places in grouped["place_list"].to_pylist() if len(places) > 1)


def group_polars(keys_N: np.ndarray) -> int:
    """Group with polars."""
    import polars  # type: ignore[import-not-found]

    columns = polars.DataFrame({"key": keys_N, "place": np.arange(len(keys_N))})
    grouped = columns.group_by("key", maintain_order=True).agg("place").filter(polars.col("place").list.len() > 1)
    return len(grouped["place"].to_list())


def group_duckdb(keys_N: np.ndarray) -> int:
    """Group with duckdb."""
    import duckdb  # type: ignore[import-not-found]

    columns = pa.table({"key": keys_N, "place": np.arange(len(keys_N))})  # noqa: F841, duckdb finds it by its name
    found = duckdb.sql("select list(place) from columns group by key having count(*) > 1 order by min(place)")
    return len(found.fetchall())


def keys(count: int) -> np.ndarray:
    """Return keys of which a fiftieth stand twice."""
    rng = generator("bench keys")
    keys_N = rng.integers(0, 1 << 63, count, dtype=np.uint64)
    copied = rng.permutation(count)[: count // 50]
    keys_N[copied[: len(copied) // 2]] = keys_N[copied[len(copied) // 2 :]]
    return keys_N


def measured(task: str, engine: str, path: Path) -> JsonObject:
    """Do one task in this process and tell its CPU seconds, and by how much the memory grew."""
    work: Callable[..., int] = globals()[f"{task}_{engine}"]
    given = keys(KEYS) if task == "group" else path
    before, started = psutil.Process().memory_info().rss, time.process_time()
    found = work(given)
    seconds, grown = time.process_time() - started, psutil.Process().memory_info().rss - before
    return {
        "task": task, "engine": engine, "version": None if engine == "luthier" else version(engine), "found": found,
        "cpu_seconds": round(seconds, 2), "memory_mb": grown >> 20,
    }  # fmt: skip


def with_table(page: str, found: JsonObject) -> str:
    """Return the page with its table made from the result."""
    rows = [["engine", f"read {ROWS:,} rows", "memory", "with one broken line", f"group {KEYS:,} keys"]]
    for engine in ENGINES:
        one = {entry["task"]: entry for entry in found["entries"] if entry["engine"] == engine}
        broken = one["broken"].get("error") or f"{one['broken']['found']:,} rows, and the place of the broken one"
        name = "ours" if engine == "luthier" else f"{engine} {one['read']['version']}"
        read_in, grouped = (f"{one[task]['cpu_seconds']:.2f} s" for task in ("read", "group"))
        rows.append([name, read_in, f"{one['read']['memory_mb']:,} MB", broken.replace("|", "/"), grouped])
    return with_block(page, "engines", table(rows))


def main() -> None:
    """Measure each task with each engine that is installed, or the one that a parent process asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="only write the page from the result that is kept")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        task, engine, path = wanted.one
        told = measured("read" if task == "broken" else task, engine, Path(path))
        print(json.dumps({**told, "task": task}))
        return
    if not wanted.page:
        write_json(RESULT, _all())
    kept: JsonObject = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


def _all() -> JsonObject:
    found: JsonObject = {"processor": processor(), "cores": usable_cores(), "entries": []}
    with TemporaryDirectory(prefix="luthier-engines-") as folder:
        whole, broken = Path(folder) / "rows.jsonl", Path(folder) / "broken.jsonl"
        write(whole, ROWS)
        lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
        broken.write_text("".join([*lines[: ROWS // 2], _BROKEN, *lines[ROWS // 2 :]]), encoding="utf-8")
        for task in ("read", "broken", "group"):
            for engine in ENGINES:
                if engine == "luthier" or importlib.util.find_spec(engine):
                    found["entries"].append(_in_a_process(task, engine, broken if task == "broken" else whole))
                    print(json.dumps(found["entries"][-1]), flush=True)
    return found


def _in_a_process(task: str, engine: str, path: Path) -> JsonObject:
    """Do one task in a process of its own; the last words of one that fails are its result."""
    command = [sys.executable, __file__, "--one", task, engine, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1].replace(str(path.parent), "")
        return {"task": task, "engine": engine, "error": said[:160]}
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
