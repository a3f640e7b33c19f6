"""The first load of a model from elsewhere, in a process that can do little, before this one opens its files.

What a folder makes the libraries do is found out in a copy of this process, made by `fork`: the tokenizer is read and used,
the config becomes a model without weights. That process has no network (Linux), writes no file, and gets only so much time
and memory. The weights themselves are bytes whose headers were checked (see `inspection.py`); they are read only here.
"""

import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from transformers import AutoModelForCausalLM

from luthier.core.confinement import without_network
from luthier.core.errors import LuthierError, ModelError
from luthier.models.load import ModelFolder, is_shipped, load_config, load_tokenizer

SECONDS = 120
MORE_BYTES = 8 << 30
_LONGEST_FAULT = 4000
_SAMPLE = "Hello, world! 1234\n\ud7ff\U0001f600 " * 8


def loaded_apart(folder: ModelFolder, *, with_config: bool = True) -> ModelFolder:
    """Return the folder when its first load went well; raise ModelError when not. The model that ships is trusted."""

    def load() -> None:
        load_tokenizer(folder).encode(_SAMPLE)
        if with_config:
            with torch.device("meta"):
                AutoModelForCausalLM.from_config(load_config(folder), trust_remote_code=False)

    if not is_shipped(folder):
        confined(load, f"the model {folder.name} in {folder.path}")
    return folder


def confined(work: Callable[[], object], what: str, seconds: int = SECONDS, more_bytes: int = MORE_BYTES) -> None:
    """Do `work` in a copy of this process without network and within limits; raise ModelError that tells how it failed."""
    hearing, saying = os.pipe()
    child = os.fork()
    if not child:
        os.close(hearing)
        _work(work, saying, seconds, more_bytes)
    os.close(saying)
    with os.fdopen(hearing, "rb") as stream:
        in_time = bool(select.select([stream], [], [], 2 * seconds)[0])
        said = stream.read().decode("utf-8", "replace") if in_time else ""
    if not in_time:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise ModelError(
            said or f"{what} cannot be loaded within {seconds} s and {more_bytes >> 20} MB; it is no model to use."
        )


def _work(work: Callable[[], object], saying: int, seconds: int, more_bytes: int) -> NoReturn:
    """Do the work and end, whatever comes of it; nothing of this process's own endings is done a second time."""
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        without_network()
        _limit(seconds, more_bytes)
        torch.set_num_threads(1)  # the threads of the process that was copied are not here
        work()
    finally:
        error = sys.exc_info()[1]
        if error is not None:
            said = str(error) if isinstance(error, LuthierError) else f"{type(error).__name__}: {error}"
            os.write(saying, said[:_LONGEST_FAULT].encode("utf-8", "replace"))
        os._exit(0 if error is None else 1)


def _limit(seconds: int, more_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
