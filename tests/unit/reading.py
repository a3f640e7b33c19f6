"""What the tests of reading share: files written for them, and what is needed to run."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from luthier.data.sources import Source

DIRTY = Path(__file__).parents[2].parent / "shared" / "data" / "dirty"
needs_dirty = pytest.mark.skipif(not DIRTY.is_dir(), reason="../shared/data/dirty is not here")
in_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def written(folder: Path, name: str, data: bytes | str) -> Source:
    path = folder / name
    path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return Source(path, name)
