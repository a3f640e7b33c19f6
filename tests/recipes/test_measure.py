"""Lengths in a run: made into tokens once, for the check and for the training, and the same as when measured alone."""

from pathlib import Path

import pytest
from command import needs_starter
from small_run import rows

from luthier.config.load import load
from luthier.core.types import PARTS
from luthier.data.checking import RowLength
from luthier.data.store import read_stored
from luthier.recipes.job import Job
from luthier.recipes.measure import ModelRuler, rendered_lengths
from luthier.recipes.run import prepared
from luthier.recipes.voice import Voice

pytestmark = needs_starter


@pytest.fixture
def job(tmp_path: Path) -> Job:
    long = {"text": "and then " * 90 + "it broke", "queue": "repairs"}
    settings = load(
        flags={
            "model.name": "starter", "data.input": "text", "data.output": ["queue"], "train.max_length": 120,
            "train.truncate": "drop", "check.skip": ["label_errors", "coverage", "near_duplicates"],
        }
    )  # fmt: skip
    return prepared([*rows(), long], settings, tmp_path / "run", Voice(quiet=True))


def test_the_sequences_that_the_check_measured_are_those_that_are_trained(job: Job):
    files = [job.run.part(part) for part in PARTS]
    stored = [row for file in files for row in read_stored(file)]
    alone = dict(zip((row.id for row in stored), ModelRuler(job).measure(stored), strict=True))
    for file in files:
        file.unlink()  # so that nothing can be made into tokens once more
    assert rendered_lengths(job) == alone
    assert sum(length.problem == "too-long" for length in alone.values()) == 1
    assert sum(length.tokens for length in alone.values()) == sum(job.rendered(part).store.num_tokens for part in PARTS)


def test_a_length_that_is_known_is_not_measured(job: Job):
    stored = list(read_stored(job.run.part("train")))
    known = RowLength(tokens=7, trained=5)
    measured = ModelRuler(job, {stored[1].id: known}).measure(stored)
    assert measured[1] == known and measured[:1] + measured[2:] == [
        length for at, length in enumerate(ModelRuler(job).measure(stored)) if at != 1
    ]
