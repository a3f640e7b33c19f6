"""A sealed test that a budget reaches: where the test would have more rows than may be asked, a sample of it by cluster.

Which clusters are held out follows from the seed and from what stands in them, at every share. So a test with a smaller
share is a part of the larger one, whole clusters of it, and the rows that nobody will be asked are trained instead.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from luthier.config.load import with_values
from luthier.config.settings import Settings
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.recipes.voice import Voice

SAMPLED = "sampled"
_MOST_TRIES = 8
_SAFE = 0.9  # clusters are of unequal size, and a part of them is rarely just as large as was aimed at


def within_reach(
    settings: Settings, folder: RunDir, reach: Callable[[RunDir], float], voice: Voice, begun: Path
) -> None:
    """Split again with a smaller test until `reach`, the share of it that the budget pays for, is 1, or no smaller one is there.

    `begun` keeps how many rows the test had at first, so that a process that is stopped in between forgets nothing.
    """
    from luthier.recipes import run as road  # torch, which looking does not need

    share = settings.split.test_share
    for _ in range(_MOST_TRIES):
        rows = _test_rows(folder)
        if (part := reach(folder)) >= 1 or rows <= 1 or folder.done("plan"):
            break
        if not begun.exists():
            begun.write_text(str(rows), encoding="utf-8")
        total = sum(json.loads(folder.certificate.read_text(encoding="utf-8"))["rows"].values())
        share = min(share, rows / total) * part * _SAFE
        shutil.rmtree(folder.path)
        road.prepared(None, with_values(settings, {"split.test_share": share}), folder.path, voice)
    if begun.exists() and sampled_of(folder) is None:
        folder.event(SAMPLED, of=int(begun.read_text(encoding="utf-8")), rows=_test_rows(folder))


def sampled_of(folder: RunDir) -> int | None:
    """Return how many rows the sealed test would have had without a budget; None where it has all of them."""
    if not folder.events.exists():
        return None
    return next((int(str(one["of"])) for one in entries(folder.events) if one["event"] == SAMPLED), None)


def _test_rows(folder: RunDir) -> int:
    return int(json.loads(folder.certificate.read_text(encoding="utf-8"))["rows"]["test"])
