"""What each room may import, and how light the command line is before it works."""

import subprocess
import sys

import pytest
from importlinter.cli import lint_imports

HEAVY = ("torch", "transformers", "peft", "pyarrow", "sklearn", "scipy", "tokenizers", "rich.console")
# The loader turns rows into tensors; everything else about data works without torch.
TENSOR_MODULES = ("luthier.data.loader",)
MODULES_OF = """
import importlib, pkgutil, sys
for room in {rooms!r}:
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, room + "."):
        if module.name not in {left_out!r}:
            importlib.import_module(module.name)
"""


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh process has loaded after running `code`."""
    print_all = "\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + print_all], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_imports_point_down():
    assert lint_imports(no_cache=True) == 0


def test_the_command_line_is_light_before_it_works():
    loaded = loaded_after("import luthier, luthier.cli.main, luthier.config.settings")
    assert not loaded.intersection(HEAVY)


def test_importing_luthier_loads_nothing_heavy():
    assert not loaded_after("import luthier").intersection(HEAVY)


@pytest.mark.parametrize(
    "rooms", [("luthier.core", "luthier.config"), ("luthier.data", "luthier.graders")], ids=lambda rooms: rooms[0]
)
def test_rooms_without_torch(rooms: tuple[str, ...]):
    loaded = loaded_after(MODULES_OF.format(rooms=rooms, left_out=TENSOR_MODULES))
    assert not loaded.intersection({"torch", "transformers", "peft"})
    assert {
        f"{room}.{name}" for room, name in [(rooms[0], {"luthier.core": "errors", "luthier.data": "read"}[rooms[0]])]
    } <= loaded


def test_importing_changes_no_switch_and_writes_no_environment():
    code = """
import os, signal, logging, random
import peft, sklearn.svm, torch, transformers
def state():
    return dict(os.environ), signal.getsignal(signal.SIGTERM), logging.root.level, random.getstate(), torch.get_num_threads()
before = state()
import luthier, luthier.cli.main, luthier.recipes.run, luthier.models.export, luthier.verdict.report
assert state() == before
"""
    assert "luthier.recipes.run" in loaded_after(code)
