"""Every error that Luthier raises on purpose.

    LuthierError
    |-- UserError (exit code 2: the user can mend it)
    |   |-- SettingsError   a setting is unknown, wrong or contradicts another
    |   |-- DataError       the data cannot be read or used as asked
    |   |-- ModelError      the model is missing, unsafe or of an unknown shape
    |   |-- ResourceError   not enough memory, disk or time for what was asked
    |   `-- RunFolderError  the run folder is missing, taken or of another run
    `-- RunFailed (exit code 1: the run itself went wrong)
        `-- ProofFailed     a stage could not prove what it did

A message says what was found, what was expected, where, and what to do.
"""

import difflib
from collections.abc import Iterable


class LuthierError(Exception):
    """The root of all errors raised on purpose."""

    exit_code = 1


class UserError(LuthierError):
    """Something that the user can mend."""

    exit_code = 2


class SettingsError(UserError, ValueError):
    """A setting is unknown, has a wrong value or contradicts another."""


class DataError(UserError, ValueError):
    """The data cannot be read or used as asked."""


class ModelError(UserError, ValueError):
    """The model is missing, unsafe to load or of an unknown shape."""


class ResourceError(UserError, RuntimeError):
    """Not enough memory, disk or time for what was asked."""


class RunFolderError(UserError, OSError):
    """The run folder is missing, taken or belongs to another run."""


class RunFailed(LuthierError, RuntimeError):
    """The run itself went wrong."""


class ProofFailed(RunFailed):
    """A stage could not prove what it did, so its result is withheld."""


class Stopped(LuthierError):
    """The user or the system asked the run to stop; everything done so far is saved.

    `signal_number` is 2 (SIGINT) or 15 (SIGTERM); the exit code is 128 plus it.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name most like `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.55)
    return f" Did you mean {close[0]!r}?" if close else ""
