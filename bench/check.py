"""How long `luthier check` takes and how much memory, by the number of rows.

    python bench/check.py 10000 100000                    the command as a user calls it
    python bench/check.py 100000 --stages                 and each stage and check by itself

The rows are those of bench/rows.py, about 1.1 KB each. The checks that are left out by default are those that
work on a sample and so take the same time at any size; --all puts them in. CPU seconds are given beside
the seconds on the clock, as they tell more where a machine is shared.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rows import write

from luthier.config.settings import CheckSettings, DataSettings, Settings
from luthier.core.hardware import processor, usable_cores
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject
from luthier.data.examine import check_names, examine, make_checks
from luthier.data.lookup import Lookup
from luthier.recipes.desk import Desk
from luthier.recipes.prepare import ORIGINS, checking_context, read_stage, split_stage
from luthier.recipes.voice import Voice

SAMPLED = ("boilerplate", "coverage", "label_errors", "weights")
_MEGABYTE = 1 << 20


def as_a_user(path: Path, skip: tuple[str, ...]) -> JsonObject:
    """Run the command; return its seconds and its greatest memory."""
    skipped = ["--set", f"check.skip=[{','.join(skip)}]"] if skip else []
    command = [sys.executable, "-m", "luthier.cli.main", "check", str(path), "--no-cache", "--json", *skipped]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        found = json.load(process.stdout)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    return {
        "seconds": round(time.perf_counter() - started, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": usage.ru_maxrss // 1024, "findings": len(found["findings"]),
    }  # fmt: skip


def stages(path: Path, skip: tuple[str, ...]) -> list[JsonObject]:
    """Run every stage in this process; return the seconds of each and the memory after it."""
    out: list[JsonObject] = []
    with TemporaryDirectory(prefix="luthier-bench-") as folder:
        run = RunDir(Path(folder))
        run.data.mkdir()
        settings = Settings(data=DataSettings(path=str(path)), check=CheckSettings(skip=skip))
        desk = Desk(run, settings, Voice())
        with _timed(out, "read"):
            read_stage(desk, None)
        with _timed(out, "split"):
            split_stage(desk, refuse_hollow=False)
        lookup = Lookup([run.read_rows(origin) for origin in ORIGINS])
        context = checking_context(desk, lookup, None)
        with _timed(out, "read again"):
            examine({}, lookup)
        for name in check_names(skip):
            with _timed(out, f"read again, {name}"):
                examine(make_checks([name], context), lookup)
        lookup.close()
    return out


@contextmanager
def _timed(out: list[JsonObject], stage: str) -> Iterator[None]:
    started, worked = time.perf_counter(), time.process_time()
    yield
    memory = psutil.Process().memory_info().rss // _MEGABYTE
    entry: JsonObject = {
        "stage": stage, "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - worked, 1), "memory_mb": memory,
    }  # fmt: skip
    out.append(entry)
    print(json.dumps(entry), flush=True)


def main() -> None:
    """Measure what the command line asks for; print one JSON document a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="+")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--all", action="store_true")
    wanted = parser.parse_args()
    skip = () if wanted.all else SAMPLED
    print(json.dumps({"processor": processor(), "cores": usable_cores(), "left out": skip}))
    with TemporaryDirectory(prefix="luthier-rows-") as folder:
        for count in wanted.rows:
            path = Path(folder) / f"{count}.jsonl"
            write(path, count)
            if wanted.stages:
                stages(path, skip)
            print(json.dumps({"rows": count, **as_a_user(path, skip)}), flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
