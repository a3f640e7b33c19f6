"""What `import luthier` gives is a promise: these names and arguments change only on purpose."""

import inspect
import subprocess
import sys

import luthier
from luthier.core import errors

NAMES = [
    "Checkup", "DataError", "LuthierError", "ModelError", "ProofFailed", "Report", "ResourceError", "Run",
    "RunFailed", "RunFolderError", "SettingsError", "Stopped", "UserError", "__version__", "check", "compare", "grade", "open", "plan",
    "resume", "run", "split", "train_weights",
]  # fmt: skip
ARGUMENTS = {
    "run": [
        "rows_or_path", "model", "input", "output", "test", "validation", "group", "out", "config", "settings", "quiet",
    ],
    "check": [
        "rows_or_path", "model", "input", "output", "test", "validation", "group", "fix", "cache", "config", "settings", "quiet",
    ],
    "compare": [
        "run_or_rows", "arms", "prompts", "knowledge", "margin", "model", "input", "output", "test", "out", "settings", "quiet",
    ],
    "split": ["rows_or_path", "out", "input", "output", "test", "validation", "group", "config", "settings", "quiet"],
    "train_weights": ["config", "settings", "out", "quiet"],
    "plan": ["rows_or_path", "model", "method", "gpus", "price", "input", "output", "config", "settings", "quiet"],
    "resume": ["path", "quiet"],
    "open": ["path"],
    "grade": ["rows_or_path", "graders", "prompt", "completion", "answer", "train", "worst", "quiet"],
}  # fmt: skip
OF_A_RUN = [
    "against",
    "answers",
    "chat",
    "ledger",
    "model",
    "outlook",
    "path",
    "report",
    "settings",
    "tokenizer",
    "verdict",
]
OF_A_REPORT = ["save"]
OF_A_CHECKUP = ["as_json", "findings", "health", "healthy", "rows", "save_report"]


def test_the_public_names_are_these():
    assert sorted(luthier.__all__) == NAMES
    assert dir(luthier) == NAMES
    assert all(getattr(luthier, name) is not None for name in NAMES)


def test_the_public_arguments_are_these():
    assert {name: list(inspect.signature(getattr(luthier, name)).parameters) for name in ARGUMENTS} == ARGUMENTS


def test_a_run_a_report_and_a_checkup_show_these():
    assert [name for name in dir(luthier.Run) if not name.startswith("_")] == OF_A_RUN
    assert [name for name in dir(luthier.Report) if not name.startswith("_")] == OF_A_REPORT
    assert [name for name in dir(luthier.Checkup) if not name.startswith("_")] == OF_A_CHECKUP


def test_every_error_class_is_public():
    raised = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert set(raised) <= set(luthier.__all__)


def test_public_functions_stay_functions_after_they_were_used():
    """A function named like one of the package's folders would be replaced by that folder on its first import."""
    luthier.run  # noqa: B018 - loads the recipes, and with them every folder
    assert all(callable(getattr(luthier, name)) for name in ARGUMENTS)


def test_importing_luthier_loads_nothing_heavy():
    code = "import sys, luthier; print([m for m in ('torch', 'transformers', 'peft', 'pyarrow', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(luthier, "finetune")
