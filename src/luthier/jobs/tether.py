"""Run a Python module that dies with its parent: `python -m luthier.jobs.tether PARENT MODULE ARGUMENT...`

A trainer whose worker was killed would go on writing beside the next attempt. Linux kills it by itself once it has
been asked to; elsewhere the rescue ends the whole process group.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the module."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before the tether held
        sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606


if __name__ == "__main__":
    main()
