"""The training of bench/plan.py, in a process of its own: a run's own stages up to the end of its training, without export.

python bench/plan_training.py SETTINGS.yaml RUN
"""

import sys
from pathlib import Path

from luthier.config.load import load
from luthier.recipes.plan import plan_stage
from luthier.recipes.run import prepared
from luthier.recipes.train import train_stage
from luthier.recipes.voice import Voice

if __name__ == "__main__":
    job = prepared(None, load([Path(sys.argv[1])]), Path(sys.argv[2]), Voice(quiet=True))
    plan_stage(job)
    train_stage(job)
