"""Tests of every folder may use the small models, tokenizers and trainings that lie in `tests/unit`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "unit"))
