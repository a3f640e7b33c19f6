"""Talk with the tuned model of a run, or with its base, rendered exactly as in training."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from luthier.config.load import load
from luthier.core.errors import RunFolderError, SettingsError
from luthier.core.rundir import open_run
from luthier.core.types import Message, Prompt
from luthier.generate.stream import stream
from luthier.recipes.answer import engine
from luthier.recipes.job import Job
from luthier.recipes.voice import Voice

ARMS = {"zero_shot": "base", "tuned": "tuned"}


def chat(path: Path, arm: str, prompt: str | None, typed: TextIO) -> Iterator[str]:
    """Yield pieces of the answers as they are decoded: to `prompt`, or to each line typed until the end of input."""
    if arm not in ARMS:
        raise SettingsError(f"--arm is {arm!r}; expected zero_shot or tuned.")
    folder = open_run(path)
    if not folder.done("train") and arm == "tuned":
        raise RunFolderError(f"{path} has not finished training; go on with: luthier resume {path}, or use --arm zero_shot")
    voice = Voice()
    job = Job(folder, load([folder.config]), voice)
    decoder = engine(job, "base" if arm == "zero_shot" else "tuned", budget=job.settings.generate.max_new_tokens or 256)
    system = job.settings.data.system
    history = [Message("system", system)] if system else []
    if prompt is None:
        voice.say(f"{arm} model of {path}; an empty line forgets the conversation, Ctrl-D ends it")
    for line in [prompt] if prompt is not None else _lines(typed, voice):
        if not line.strip() and prompt is None:
            history = history[: 1 if system else 0]
            voice.say("(forgotten)")
            continue
        history.append(Message("user", line))
        tokens = tuple(job.renderer.prompt(history))
        pieces = []
        for piece in stream(decoder.stream(Prompt("chat", tokens)), job.renderer.unrender):
            pieces.append(piece)
            yield piece
        history.append(Message("assistant", "".join(pieces)))
        yield "\n"


def _lines(typed: TextIO, voice: Voice) -> Iterator[str]:
    while True:
        if typed.isatty():
            voice.console.print("> ", end="", markup=False)
        line = typed.readline()
        if not line:
            return
        yield line.rstrip("\n")
