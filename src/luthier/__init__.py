"""Luthier fine-tunes language models end to end: raw examples in, a tuned model and the measured proof out.

    import luthier

    run = luthier.run("tickets.csv", input="text", output="queue")
    run.verdict["because"]

Importing this loads no torch; what needs it is loaded when it is first used.
"""

from typing import TYPE_CHECKING

from luthier.core.errors import (
    DataError,
    LuthierError,
    ModelError,
    ProofFailed,
    ResourceError,
    RunFailed,
    RunFolderError,
    SettingsError,
    Stopped,
    UserError,
)

if TYPE_CHECKING:
    from luthier.recipes.api import Report, Run, open, resume, run, train_weights
    from luthier.recipes.check_api import Checkup, check, split
    from luthier.recipes.compare_api import compare
    from luthier.recipes.grade import grade
    from luthier.recipes.plan_api import plan

    __version__: str

__all__ = [
    "Checkup",
    "DataError",
    "LuthierError",
    "ModelError",
    "ProofFailed",
    "Report",
    "ResourceError",
    "Run",
    "RunFailed",
    "RunFolderError",
    "SettingsError",
    "Stopped",
    "UserError",
    "__version__",
    "check",
    "compare",
    "grade",
    "open",
    "plan",
    "resume",
    "run",
    "split",
    "train_weights",
]

_FROM_API = ("Report", "Run", "open", "resume", "run", "train_weights")
_FROM_CHECK_API = ("Checkup", "check", "split")


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("luthier")
    if name == "grade":
        from luthier.recipes.grade import grade

        return grade
    if name == "plan":
        from luthier.recipes.plan_api import plan

        return plan
    if name in _FROM_API:
        from luthier.recipes import api

        return vars(api)[name]
    if name == "compare":
        from luthier.recipes.compare_api import compare

        return compare
    if name in _FROM_CHECK_API:
        from luthier.recipes import check_api

        return vars(check_api)[name]
    raise AttributeError(f"module 'luthier' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
