"""Stands in for a trainer that fails: the settings' seed says how."""

import os
import signal
import sys
from pathlib import Path

from luthier.config.load import load

seed = load([Path(sys.argv[2])]).seed
if seed == 9:
    os.kill(os.getpid(), signal.SIGKILL)
said = {
    1: "luthier: the loss of step 3 is nan",
    2: "luthier: checkpoint 000400 cannot be written: No space left on device.",
}
print(f"reading {Path.cwd()}\n{said[seed]}", f"Look at {Path.cwd()}/run", file=sys.stderr)
sys.exit(seed)
