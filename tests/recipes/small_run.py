"""One small finished run over rows from Python, shared by the tests of the API and of the commands.

The starter is trained for a few steps only: these tests are about the road, not about how far it leads.
"""

import atexit
from functools import cache
from importlib.resources import files
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

import luthier

WEIGHTS = Path(str(files("luthier.starter") / "model" / "model.safetensors"))
SETTINGS = {
    "train.steps": 3, "train.validate_every": 3, "split.test_rows": 6, "split.test_share": 0.3, "compare.train_rows": 4, "compare.folds": 0, "data.general": "none",
    "compare.resamples": 50, "split.near_duplicate": 1, "model.dtype": "float32", "generate.max_new_tokens": 8,
}  # fmt: skip

needs_starter = pytest.mark.skipif(not WEIGHTS.exists(), reason="the starter's weights are not in this checkout")


def rows() -> list[dict[str, str]]:
    """Thirty tickets with one of three queues each."""
    subjects = {
        "billing": ("invoice", "refund", "charge", "receipt", "discount"),
        "shipping": ("parcel", "courier", "delivery", "tracking", "address"),
        "account": ("password", "login", "profile", "username", "avatar"),
    }
    asked = ("My {} is wrong, what now?", "Please tell me about the {} again.")
    return [
        {"text": ask.format(word), "queue": queue}
        for queue, words in subjects.items()
        for word in words
        for ask in asked
    ]


@cache
def finished() -> "luthier.Run":
    """A run through the whole road, made once for all tests of a process."""
    folder = mkdtemp(prefix="luthier-small-run-")
    atexit.register(rmtree, folder, ignore_errors=True)
    out = Path(folder) / "run"
    return luthier.run(rows(), input="text", output="queue", out=out, settings=SETTINGS, quiet=True)
