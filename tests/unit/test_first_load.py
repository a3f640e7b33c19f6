"""A model from elsewhere is loaded for the first time where it can reach, write and take nothing."""

import socket
import sys
import time
from pathlib import Path

import pytest
from tiny_chat import CHATML, byte_tokenizer
from tiny_training import tiny_model

from luthier.config.load import load
from luthier.config.settings import ModelSettings
from luthier.core.errors import ModelError
from luthier.core.rundir import create
from luthier.models.first_load import confined, loaded_apart
from luthier.models.load import ModelFolder, find_model
from luthier.recipes.job import Job
from luthier.recipes.voice import Voice

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
forks: list[str] = []
sys.addaudithook(lambda event, arguments: forks.append(event) if event == "os.fork" else None)


def saved(folder: Path, template: str = CHATML) -> Path:
    tokenizer = byte_tokenizer(template)
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is one of Linux")
def test_it_reaches_no_network():
    with socket.create_server(("127.0.0.1", 0)) as canary:
        with pytest.raises(ModelError, match="PermissionError"):
            confined(lambda: socket.create_connection(canary.getsockname()), "a model")
        socket.create_connection(canary.getsockname()).close()  # this process still does


def test_it_writes_no_file_and_takes_no_more_than_it_may(tmp_path: Path):
    with pytest.raises(ModelError, match="File too large"):
        confined(lambda: (tmp_path / "left").write_bytes(b"x"), "a model")
    with pytest.raises(ModelError, match="MemoryError"):
        confined(lambda: bytearray(1 << 30), "a model", more_bytes=1 << 28)
    since = time.monotonic()
    with pytest.raises(ModelError, match="a model cannot be loaded within 1 s"):
        confined(lambda: sum(iter(int, 1)), "a model", seconds=1)
    assert time.monotonic() - since < 30


def test_what_is_wrong_with_a_model_is_said_as_where_it_is_loaded_for_use(tmp_path: Path):
    folder = saved(tmp_path / "model")
    loaded_apart(find_model(ModelSettings(name=str(folder))))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=f"the tokenizer of {folder} in {folder} cannot be loaded"):
        loaded_apart(ModelFolder(str(folder), folder, None, {}))


def job(tmp_path: Path, model: Path | str) -> Job:
    settings = load([], [f"model.name={model}", "train.max_length=64"])
    return Job(create(tmp_path / "run", "run"), settings, Voice())


def test_a_run_loads_a_model_apart_and_renders_by_its_template_within_limits(tmp_path: Path):
    hostile = "{% if messages | length == 2 %}" + ENDLESS + "{% endif %}" + CHATML
    own = job(tmp_path, saved(tmp_path / "model", hostile))
    forks.clear()
    assert own.folder.path == tmp_path / "model" and len(forks) == 1
    with pytest.raises(ModelError, match="the model's chat template goes beyond its limits"):
        _ = own.renderer


def test_the_model_that_ships_is_loaded_and_rendered_in_this_process(tmp_path: Path):
    own = job(tmp_path, "starter")
    forks.clear()
    assert own.renderer.stop_tokens and not forks
