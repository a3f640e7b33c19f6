"""Talk with the tuned model of a run, or with its base, rendered exactly as in training."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TextIO

from luthier.config.load import load
from luthier.core.errors import DataError, RunFolderError, SettingsError
from luthier.core.rundir import open_run
from luthier.core.types import Message, Prompt
from luthier.data.problems import RowProblem
from luthier.generate.engine import Engine
from luthier.generate.stream import stream
from luthier.recipes.decode import engine
from luthier.recipes.job import Job
from luthier.recipes.voice import Voice

ARMS: dict[str, Literal["base", "tuned"]] = {"zero_shot": "base", "tuned": "tuned"}
CHAT_TOKENS = 256


def chat(path: Path, arm: str, prompt: str | None, typed: TextIO) -> Iterator[str]:
    """Yield pieces of the answers as they are decoded: to `prompt`, or to each line typed until the end of input."""
    if arm not in ARMS:
        raise SettingsError(f"--arm is {arm!r}; expected zero_shot or tuned.")
    folder = open_run(path)
    if not folder.done("plan"):
        raise RunFolderError(f"{path} has not chosen its model's type yet; go on with: luthier resume {path}")
    if not folder.done("train") and arm == "tuned":
        raise RunFolderError(
            f"{path} has not finished training; go on with: luthier resume {path}, or use --arm zero_shot"
        )
    voice = Voice()
    job = Job(folder, load([folder.config]), voice)
    decoder = engine(job, ARMS[arm], budget=job.settings.generate.max_new_tokens or CHAT_TOKENS)
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
        answer: list[int] = []
        yield from _answer(job, decoder, history, answer)
        history.append(Message("assistant", job.renderer.unrender(answer)))
        yield "\n"


def prompt_tokens(job: Job, messages: Sequence[Message]) -> tuple[int, ...]:
    """Return what the model is served for these messages; raise DataError where they cannot be rendered."""
    try:
        return tuple(job.renderer.prompt(messages))
    except RowProblem as problem:
        raise DataError(f"this conversation cannot be rendered: {problem.rule}: {problem.detail}") from problem


def _answer(job: Job, decoder: Engine, history: Sequence[Message], answer: list[int]) -> Iterator[str]:
    """Return the pieces of an answer as the model writes it, reasoning included; its tokens are appended to `answer`."""
    tokens = decoder.stream(Prompt("chat", prompt_tokens(job, history)))
    return stream(_kept(tokens, answer), job.renderer.decode)


def _kept(tokens: Iterable[int], kept: list[int]) -> Iterator[int]:
    for token in tokens:
        kept.append(token)
        yield token


def _lines(typed: TextIO, voice: Voice) -> Iterator[str]:
    while True:
        if typed.isatty():
            voice.console.print("> ", end="", markup=False)
        line = typed.readline()
        if not line:
            return
        yield line.rstrip("\n")
