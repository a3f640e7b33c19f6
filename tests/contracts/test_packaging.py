"""The wheel holds everything that a run needs besides its dependencies."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_holds_every_module(wheel_files: list[str]):
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "luthier").rglob("*.py")}
    assert modules <= set(wheel_files)
    assert any(name.startswith("luthier/starter/skills/") for name in wheel_files)


def test_the_wheel_holds_what_is_not_code(wheel_files: list[str]):
    model = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors")
    wanted = {
        "luthier/verdict/report.css",
        "luthier/kernels/native.cpp",
        "luthier/kernels/native.h",
        "luthier/kernels/native_tree.cpp",
        *(f"luthier/starter/model/{name}" for name in model),
    }
    assert wanted <= set(wheel_files)
    assert any(name.endswith("licenses/LICENSE") for name in wheel_files)


def test_the_wheel_holds_no_tests_and_no_data(wheel_files: list[str]):
    assert all(name.startswith(("luthier/", "luthier-")) for name in wheel_files)
