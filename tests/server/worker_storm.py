"""Many jobs over several workers, of which some are killed at random; and what must be true afterwards."""

import os
import random
import signal
import time
from pathlib import Path

from acting_trainer import STEPS, figures, line, weights
from desks import Bench, bench, uploaded

from luthier.config.serving import ServeSettings, as_json
from luthier.core.rundir import write_json
from luthier.jobs.processes import ProcessName
from luthier.jobs.queue import MOST_ATTEMPTS
from luthier.jobs.records import FINAL, JobRecord
from luthier.jobs.submit import TRAINING
from luthier.server.scheduler import Scheduler

_PATIENCE_SECONDS = 300.0  # how long no job at all may end


def acting_bench(path: Path) -> Bench:
    """Make a data folder whose workers find the trainer that only acts."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(Path(__file__).parent), *filter(None, inherited)]))
    desk = bench(path)
    write_json(desk.folder.settings, as_json(ServeSettings(threads=1)))
    return desk


def ready_job(desk: Bench, seed: int = 1) -> JobRecord:
    """Return a job that waits to be trained."""
    job = desk.queued_job(uploaded(desk), seed=seed)
    (desk.folder.job(job.id) / f"{TRAINING}.rows").write_text("12")
    return job


def storm(path: Path, num_jobs: int, num_workers: int, num_kills: int, seed: int) -> tuple[Bench, list[JobRecord]]:
    """Work through the jobs while workers are killed; return what became of them."""
    desk = acting_bench(path)
    jobs = [ready_job(desk) for _ in range(num_jobs)]
    scheduler = Scheduler(desk.folder, desk.queue, desk.files, num_workers, "acting_worker", rescue_seconds=0.2)
    scheduler.start()
    rng, killed, left, since = random.Random(seed), set[ProcessName](), list(jobs), time.monotonic()
    while left:
        time.sleep(rng.uniform(0.1, 0.6))
        still = [job for job in left if desk.now(job).status not in FINAL]
        since = time.monotonic() if len(still) < len(left) else since
        left = still
        assert time.monotonic() < since + _PATIENCE_SECONDS, [desk.now(job) for job in left]
        alive = [worker for worker in desk.queue.workers() if worker not in killed]
        if alive and len(killed) < num_kills:
            victim = rng.choice(alive)
            killed.add(victim)
            os.kill(victim.pid, signal.SIGKILL)
    scheduler.stop()
    return desk, [desk.now(job) for job in jobs]


def check(desk: Bench, jobs: list[JobRecord]) -> None:
    """Assert that each job ended once, whole, and as if nothing had happened."""
    steps = "".join(f"{n},{float.fromhex(figures(n)['loss'])},,,\n" for n in range(1, STEPS + 1))
    names = [model.id for model in desk.jobs.models(desk.project)]
    for job in jobs:
        said = [event.message for event in desk.jobs.events(job.id, None, 10_000).records][::-1]
        assert sum(text == "The job has successfully completed" for text in said) == (job.status == "succeeded")
        if job.status == "failed":  # as many kills as there are attempts
            assert job.error is not None and job.error["code"] == "worker_lost" and job.fine_tuned_model is None
            assert job.attempt == MOST_ATTEMPTS
            continue
        assert job.status == "succeeded" and names.count(str(job.fine_tuned_model)) == 1
        (model,) = [model for model in desk.jobs.models(desk.project) if model.id == job.fine_tuned_model]
        assert model.package is not None
        run = (desk.folder.path / model.package).parent
        assert (run / "package" / "model.safetensors").read_bytes() == weights(STEPS)
        assert (run / "metrics.jsonl").read_text() == "".join(line(n) + "\n" for n in range(1, STEPS + 1))
        assert job.result_file is not None
        assert desk.folder.file(job.result_file).read_text().partition("\n")[2] == steps
        assert [text for text in said if text.startswith("Step ")] == [
            f"Step {n}/{STEPS}: training loss={1 / n:.2f}" for n in range(1, STEPS + 1)
        ]
        assert [found.step for found in desk.jobs.checkpoints(job.id, None, 9).records] == [20, 15, 10]
        assert len([path for path in desk.folder.job(job.id).glob("[0-9]*") if path.is_dir()]) == 1
