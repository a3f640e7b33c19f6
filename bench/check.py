"""How long `luthier check` takes and how much memory, by the number of rows.

    python bench/check.py 10000 100000 1000000     the command as a user calls it
    python bench/check.py 100000 --stages          each stage and check by itself, and how long it does not hear Ctrl-C
    python bench/check.py --page                   only the tables of docs/scale.md

The rows are those of bench/rows.py, about 1.1 KB each. The checks that are left out by default are those that
work on a sample and so take the same time at any size; --all puts them in. What was measured is kept in
bench/results/check.json, a size measured again in the place of the old figures. CPU seconds stand beside the seconds on the
clock, and the load of the machine before it began: the clock tells little where others work on the same cores.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from pages import table, with_block
from rows import write

from luthier.config.settings import CheckSettings, DataSettings, Settings
from luthier.core.hardware import processor, usable_cores
from luthier.core.rundir import RunDir, write_json
from luthier.core.types import JsonObject
from luthier.data.examine import check_names, examine, make_checks
from luthier.data.lookup import Lookup
from luthier.recipes.desk import Desk
from luthier.recipes.prepare import ORIGINS, checking_context, read_stage, split_stage
from luthier.recipes.voice import Voice

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "check.json"
PAGE = ROOT / "docs" / "scale.md"
SAMPLED = ("boilerplate", "coverage", "label_errors", "weights")
BEFORE = ("read", "split", "read the stored rows once")
_MEGABYTE = 1 << 20
_HEARS_EVERY_SECONDS = 0.02


def as_a_user(path: Path, skip: Sequence[str]) -> JsonObject:
    """Run the command; return its seconds and its greatest memory."""
    skipped = ["--set", f"check.skip=[{','.join(skip)}]"] if skip else []
    command = [sys.executable, "-m", "luthier.cli.main", "check", str(path), "--no-cache", "--json", *skipped]
    load, started = os.getloadavg()[0], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        found = json.load(process.stdout)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    return {
        "seconds": round(time.perf_counter() - started, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": usage.ru_maxrss // 1024, "load_before": round(load, 1), "findings": len(found["findings"]),
    }  # fmt: skip


def stages(path: Path, skip: Sequence[str]) -> list[JsonObject]:
    """Run every stage in this process; return the seconds of each and the memory after it."""
    out: list[JsonObject] = []
    with TemporaryDirectory(prefix="luthier-bench-") as folder:
        run = RunDir(Path(folder))
        run.data.mkdir()
        settings = Settings(data=DataSettings(path=str(path)), check=CheckSettings(skip=tuple(skip)))
        desk = Desk(run, settings, Voice(quiet=True))
        with _timed(out, BEFORE[0]):
            read_stage(desk, None)
        with _timed(out, BEFORE[1]):
            split_stage(desk, refuse_hollow=False)
        lookup = Lookup([run.read_rows(origin) for origin in ORIGINS])
        context = checking_context(desk, lookup, None)
        with _timed(out, BEFORE[2]):
            examine({}, lookup)
        for name in check_names(skip):
            with _timed(out, name):
                examine(make_checks([name], context), lookup)
        lookup.close()
    return out


@contextmanager
def _timed(out: list[JsonObject], stage: str) -> Iterator[None]:
    """Add the stage's seconds; `deaf_seconds` of CPU are the longest for which Ctrl-C would have had to wait."""
    started, heard = time.perf_counter(), [time.process_time()]
    before = signal.signal(signal.SIGPROF, lambda number, frame: heard.append(time.process_time()))
    signal.setitimer(signal.ITIMER_PROF, _HEARS_EVERY_SECONDS, _HEARS_EVERY_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    heard.append(time.process_time())
    memory = psutil.Process().memory_info().rss // _MEGABYTE
    entry: JsonObject = {
        "stage": stage, "seconds": round(time.perf_counter() - started, 1), "cpu_seconds": round(heard[-1] - heard[0], 1),
        "deaf_seconds": round(max(later - sooner for sooner, later in pairwise(heard)), 2), "memory_mb": memory,
    }  # fmt: skip
    out.append(entry)
    print(json.dumps(entry), flush=True)


def kept() -> JsonObject:
    """Return what was measured so far."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"runs": [], "stages": None}


def with_run(found: JsonObject, run: JsonObject) -> JsonObject:
    """Return the result with this run in the place of an older one of as many rows and the same checks."""
    others = [one for one in found["runs"] if (one["rows"], one["left_out"]) != (run["rows"], run["left_out"])]
    return {**found, "runs": sorted([*others, run], key=lambda one: (len(one["left_out"]) == 0, one["rows"]))}


def with_tables(page: str, found: JsonObject) -> str:
    """Return the page with its tables made from the result."""
    return with_block(with_block(page, "sizes", by_size(found["runs"])), "stages", by_stage(found["stages"]))


def by_size(runs: Sequence[JsonObject]) -> str:
    """Say what each size took."""
    rows = [["rows", "checks", "seconds", "load before", "CPU seconds", "CPU microseconds a row", "peak memory"]]
    for one in runs:
        checks = "those below" if one["left_out"] else "all"
        clock = ["not measured", ""] if one["seconds"] is None else [f"{one['seconds']:,}", str(one["load_before"])]
        each = f"{1e6 * one['cpu_seconds'] / one['rows']:,.0f}"
        rows.append([f"{one['rows']:,}", checks, *clock, f"{one['cpu_seconds']:,}", each, f"{one['peak_mb']:,} MB"])
    return table(rows)


def by_stage(found: JsonObject | None) -> str:
    """Say what each stage took: reading and split, then the checks, the longest first, each with the reading of the rows in it."""
    if found is None:
        return "Not measured yet."
    ranked = sorted(found["stages"], key=lambda one: -one["cpu_seconds"])
    before = [one for one in found["stages"] if one["stage"] in BEFORE]
    rows = [["stage", "CPU seconds", "longest deaf to Ctrl-C, CPU seconds"]]
    for one in [*before, *(one for one in ranked if one not in before)]:
        name = one["stage"] if one in before else f"`{one['stage']}`"
        rows.append([name, f"{one['cpu_seconds']}", f"{one['deaf_seconds']}"])
    return f"{found['rows']:,} rows:\n\n{table(rows)}"


def main() -> None:
    """Measure what the command line asks for; print one JSON document a line, keep it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--all", action="store_true", help="with the checks that look at a sample")
    parser.add_argument("--page", action="store_true", help="only write the page from the result that is kept")
    wanted = parser.parse_args()
    left_out = () if wanted.all else SAMPLED
    machine: JsonObject = {"processor": processor(), "cores": usable_cores(), "left_out": [*left_out]}
    with TemporaryDirectory(prefix="luthier-rows-") as folder:
        for count in () if wanted.page else wanted.rows:
            path = Path(folder) / f"{count}.jsonl"
            write(path, count)
            size: JsonObject = {"rows": count, "megabytes": path.stat().st_size // 1_000_000, **machine}
            if wanted.stages:
                found = {**kept(), "stages": {**size, "stages": stages(path, left_out)}}
            else:
                run = {**size, **as_a_user(path, left_out)}
                print(json.dumps(run), flush=True)
                found = with_run(kept(), run)
            write_json(RESULT, found)
            path.unlink()
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), kept()), encoding="utf-8")


if __name__ == "__main__":
    main()
