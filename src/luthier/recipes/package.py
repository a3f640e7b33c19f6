"""A checkpoint of a run as a package that can answer, made while the run may still go on:

    python -m luthier.recipes.package RUN CHECKPOINT OUT

Nothing is written into the run folder, whose trainer may hold it. There is no certificate: the package of the finished
run has one, and is made by the same code.
"""

import sys
from pathlib import Path

from luthier.config.load import load
from luthier.core.rundir import RunDir
from luthier.models.export import Package, export
from luthier.recipes.job import Job
from luthier.recipes.voice import Voice

_MAX_NEW_TOKENS = 256


def package(run: Path, checkpoint: Path, out: Path) -> None:
    """Write the weights of a checkpoint of `run` to `out`, in the form that the run's method trains."""
    folder = RunDir(run)
    job = Job(folder, load([folder.config]), voice := Voice(quiet=True))
    voice.log = None
    settings = job.settings
    export(job.model_of(checkpoint), job.tokenizer, out, Package(
        format="adapter" if settings.train.method == "lora" else "merged",
        base=None if settings.model.init else job.base_name, revision=job.folder.revision,
        card=f"# {checkpoint.name}\n\nA checkpoint at step {int(checkpoint.name)}; the training went on.\n",
        stop_tokens=tuple(job.renderer.stop_tokens), max_new_tokens=settings.generate.max_new_tokens or _MAX_NEW_TOKENS,
        temperature=settings.generate.temperature, top_p=settings.generate.top_p,
    ))  # fmt: skip


if __name__ == "__main__":
    package(*map(Path, sys.argv[1:]))
