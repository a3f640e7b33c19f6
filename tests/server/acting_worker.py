"""A worker of the server whose trainer only acts: python -m acting_worker DATA JOB TOKEN train"""

import signal
import sys
from pathlib import Path

from luthier.recipes.serve import Worker

if __name__ == "__main__":
    data, job_id, token, _ = sys.argv[1:]
    worker = Worker(Path(data), job_id, int(token), trainer="acting_trainer")
    signal.signal(signal.SIGTERM, lambda number, frame: worker.stopped.set())
    worker.work("train")
