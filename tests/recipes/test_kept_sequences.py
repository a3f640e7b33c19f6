"""What a run was trained on is kept as tokens: read again where nothing has changed, made again where something has."""

from pathlib import Path
from shutil import copytree

import numpy as np
from small_run import finished, needs_starter

from luthier.config.load import load
from luthier.core.rundir import RunDir
from luthier.data import sequences
from luthier.data.loader import SequenceStore
from luthier.recipes.job import Job
from luthier.recipes.voice import Voice

pytestmark = needs_starter


def job_in(folder: Path, *changes: str) -> Job:
    run = RunDir(folder)
    return Job(run, load([run.config], changes), Voice())


def test_kept_sequences_are_those_of_the_rows_and_are_read_instead_of_rendering(tmp_path):
    folder = Path(copytree(finished().path, tmp_path / "run"))
    kept = job_in(folder).training_store
    assert RunDir(folder).sequences.exists()
    assert kept.digest() == job_in(folder).rendered("train").store.digest()
    tokens, weights = kept.flat()
    other = SequenceStore.of(kept.rows, kept.lengths, np.full_like(tokens, 7), weights, kept.num_own)
    job = job_in(folder)
    sequences.write(RunDir(folder).sequences, other, job._made_from())
    assert job.training_store.digest() == other.digest()


def test_other_settings_other_rows_and_no_file_make_them_again(tmp_path):
    folder = Path(copytree(finished().path, tmp_path / "run"))
    whole = job_in(folder).training_store
    shorter = job_in(folder, "train.max_length=17", "train.truncate=start").training_store
    assert shorter.lengths.max() <= 17 < whole.lengths.max()
    assert job_in(folder).training_store.digest() == whole.digest()
    RunDir(folder).sequences.unlink()
    assert job_in(folder).training_store.digest() == whole.digest()
    (folder / "data" / "train.parquet").write_bytes((folder / "data" / "test.parquet").read_bytes())
    assert job_in(folder).training_store.digest() != whole.digest()
