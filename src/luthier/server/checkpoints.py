"""Checkpoints that answer: each gets a package when it is first asked for, made once by a process of its own."""

import asyncio
import logging
import subprocess
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from luthier.core.rundir import RunDir
from luthier.core.threads import child_environment
from luthier.jobs.attempt import RUN, attempts
from luthier.jobs.folder import DataFolder
from luthier.jobs.processes import start_tethered
from luthier.jobs.records import CheckpointRecord
from luthier.server.errors import ApiError

log = logging.getLogger(__name__)

PACKAGER = "luthier.recipes.package"
_LOG = "package.log"
_SECONDS = 600.0


class Checkpoints:
    """Makes packages, one at a time: a client waits for its own, and no other request waits for it."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder, self._making = folder, asyncio.Lock()

    async def package(self, checkpoint: CheckpointRecord) -> tuple[RunDir, Path]:
        """Return the run that made a checkpoint and the package of its weights; raise ApiError when there is none."""
        run = self._run(checkpoint)
        place = self._folder.package(checkpoint.job_id, checkpoint.step)
        async with self._making:
            if not place.exists():
                await run_in_threadpool(self._make, checkpoint, run, place)
        return run, place

    def _run(self, checkpoint: CheckpointRecord) -> RunDir:
        runs = [RunDir(path / RUN) for path in attempts(self._folder, checkpoint.job_id)]
        there = [run for run in runs if run.config.exists()]
        if not there:
            raise _unavailable(checkpoint.model)
        return there[-1]

    def _make(self, checkpoint: CheckpointRecord, run: RunDir, place: Path) -> None:
        source = self._folder.checkpoint(checkpoint.job_id, checkpoint.step)
        said = self._folder.job(checkpoint.job_id) / _LOG
        command = [PACKAGER, str(run.path), str(source), str(place)]
        environment = child_environment(1) | {
            "CUDA_VISIBLE_DEVICES": ""
        }  # a GPU's memory is for who trains and answers
        process = start_tethered(command, said, environment, self._folder.job(checkpoint.job_id))
        try:
            code = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0 or not place.exists():
            log.error("no package could be made of %s (code %s); %s says why", checkpoint.model, code, said)
            raise _unavailable(checkpoint.model)


def _unavailable(model: str) -> ApiError:
    return ApiError(
        503,
        f"The model {model!r} cannot be loaded; the server's log says why.",
        param="model",
        code="model_unavailable",
    )
