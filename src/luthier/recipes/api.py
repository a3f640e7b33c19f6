"""The Python API: the same recipes that the commands call, and a finished run as an object.

Everything that a `Run` shows is read from its folder, so a run made on the command line opens here and
the other way round.
"""

import html
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import cast

import pyarrow as pa
from huggingface_hub.utils import enable_progress_bars
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from luthier.config.load import load
from luthier.config.settings import Settings
from luthier.core.errors import DataError, RunFolderError
from luthier.core.rundir import open_run
from luthier.core.types import JsonObject, JsonValue, Message, Prompt
from luthier.data.ledger import read_ledger
from luthier.data.messages import messages_from
from luthier.data.problems import RowProblem
from luthier.generate.engine import Engine
from luthier.recipes import run as road
from luthier.recipes.against import against
from luthier.recipes.chat import CHAT_TOKENS, prompt_tokens
from luthier.recipes.decode import engine
from luthier.recipes.doctor import say_model
from luthier.recipes.job import Job
from luthier.recipes.verdict_file import read_verdict
from luthier.recipes.voice import Voice
from luthier.verdict.answers import read_answers

Rows = Iterable[JsonObject]
Paths = Sequence[str | Path]
_REPORT_HEIGHT = 720


class Report:
    """The report of a run: one HTML file that needs nothing else. A notebook shows it in place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, to: str | Path) -> Path:
        """Copy the report to the file `to` and return its path."""
        target = Path(to)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, target)
        return target

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Return the report in a frame of its own, so that its styles and the notebook's stay apart."""
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: {_REPORT_HEIGHT}px; border: 0"></iframe>'


class Run:
    """A run folder, read. The model is loaded when it is first asked for."""

    def __init__(self, path: str | Path) -> None:
        self._folder = open_run(Path(path))

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def settings(self) -> Settings:
        """The settings, with everything that Luthier chose filled in."""
        return load([self._folder.config])

    @property
    def verdict(self) -> JsonObject:
        """What verdict.json holds; raises RunFolderError before the run has one."""
        return read_verdict(self._folder)

    @property
    def outlook(self) -> JsonObject:
        """What outlook.json holds: the look ahead that `luthier.compare` made before tuning; raises RunFolderError where it made none."""
        if not self._folder.outlook.exists():
            raise RunFolderError(
                f"{self.path} has no outlook; `luthier.compare` makes one from data, before anything is tuned."
            )
        return json.loads(self._folder.outlook.read_text(encoding="utf-8"))

    def against(self, *others: "Run | str | Path", margin: float | None = None) -> JsonObject:
        """Compare the arms with those of other finished runs, on the test rows that all share, as `luthier compare --against` does."""
        paths = [other.path if isinstance(other, Run) else Path(other) for other in others]
        return against(self.path, paths, margin)

    @property
    def answers(self) -> pa.Table:
        """Every answer of every arm, graded: the columns of `answers/<arm>.parquet` behind a column `arm`."""
        arms = self.verdict["arms"]
        assert isinstance(arms, dict)
        tables = [(arm, read_answers(self._folder.arm_answers(arm))) for arm in arms]
        return pa.concat_tables(
            table.add_column(0, "arm", pa.array([arm] * table.num_rows, pa.string())) for arm, table in tables
        )

    @property
    def ledger(self) -> pa.Table:
        """Where every input row went, and why."""
        if not self._folder.ledger.exists():
            raise RunFolderError(f"{self.path} has no ledger yet; go on with: luthier resume {self.path}")
        return read_ledger(self._folder.ledger)

    @property
    def report(self) -> Report:
        """The report; raises RunFolderError before the run has one."""
        if not self._folder.report.exists():
            raise RunFolderError(f"{self.path} has no report yet; go on with: luthier resume {self.path}")
        return Report(self._folder.report)

    @cached_property
    def model(self) -> PreTrainedModel | PeftModel:
        """The tuned model with its best weights, ready to answer: a plain transformers or PEFT model."""
        with own_bars():
            return cast("PreTrainedModel | PeftModel", self._job.tuned_model())

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, with the chat template that it was trained with."""
        return self._job.tokenizer

    def chat(self, messages: str | Sequence[Mapping[str, JsonValue]]) -> str:
        """Return the tuned model's answer to a text, or to messages in OpenAI's chat format.

        A text gets the run's own system prompt (`data.system`) before it; messages are taken as they are.
        """
        asked = self._asked(messages) if isinstance(messages, str) else _messages(messages)
        (completion,) = self._engine([Prompt("chat", prompt_tokens(self._job, asked))])
        return completion.text

    def __repr__(self) -> str:
        outcome = f", {self.verdict['outcome']}" if self._folder.verdict.exists() else ", unfinished"
        return f"Run({str(self.path)!r}{outcome})"

    def _asked(self, text: str) -> tuple[Message, ...]:
        system = self.settings.data.system
        return ((Message("system", system),) if system else ()) + (Message("user", text),)

    @cached_property
    def _job(self) -> Job:
        return Job(self._folder, self.settings, Voice(quiet=True))

    @cached_property
    def _engine(self) -> Engine:
        with own_bars():
            return engine(self._job, "tuned", budget=self._job.settings.generate.max_new_tokens or CHAT_TOKENS)


def run(
    rows_or_path: Rows | str | Path | None = None,
    *,
    model: str | Path | None = None,
    input: str | None = None,
    output: str | Sequence[str] | None = None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    group: str | None = None,
    out: str | Path | None = None,
    config: Paths = (),
    settings: Mapping[str, JsonValue] | None = None,
    quiet: bool = False,
) -> Run:
    """Walk the whole road, as `luthier run` does: read, check, split, plan, train, compare, export, report.

    `rows_or_path` is a file, folder or glob, or any iterable of dicts (a `datasets.Dataset`, a data frame's
    `to_dict("records")`). The other arguments are the command's flags; `config` are YAML files, later ones win;
    `settings` are dotted keys such as `{"train.lr": 1e-4}` and win over everything. `quiet` leaves the screen alone.
    """
    flags = data_flags(model, input, output, test, validation, group)
    chosen = load([Path(file) for file in config], assignments_of(settings), flags)
    voice = Voice(quiet=quiet)
    say_model(chosen, voice)
    with own_bars():
        return Run(road.run(rows_or_path, chosen, None if out is None else Path(out), voice).path)


def train_weights(
    config: Paths,
    *,
    settings: Mapping[str, JsonValue] | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Run:
    """Train what settings files say, up to the exported weights and without a verdict, as `luthier train` does."""
    chosen = load([Path(file) for file in config], assignments_of(settings))
    with own_bars():
        return Run(road.train(chosen, None if out is None else Path(out), Voice(quiet=quiet)).path)


def resume(path: str | Path, *, quiet: bool = False) -> Run:
    """Go on with a stopped run at the first stage that did not finish, as `luthier resume` does."""
    with own_bars():
        return Run(road.resume(Path(path), Voice(quiet=quiet)).path)


def data_flags(
    model: str | Path | None,
    input: str | None,
    output: str | Sequence[str] | None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    group: str | None = None,
) -> JsonObject:
    """Return the arguments that name data and model as settings by their dotted keys."""
    columns = output.split(",") if isinstance(output, str) else output
    return {
        "model.name": _text(model), "data.input": input, "data.output": None if columns is None else [*columns],
        "data.test": _text(test), "data.validation": _text(validation), "data.group": group,
    }  # fmt: skip


def open(path: str | Path) -> Run:
    """Open a run folder, finished or not; raise RunFolderError where there is none."""
    return Run(path)


@contextmanager
def own_bars() -> Iterator[None]:
    """Leave out transformers' bars for loading and saving weights, and give the caller's setting back afterwards."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    enable_progress_bars()  # of the hub, which the line above hides too: downloads take long
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _messages(turns: Sequence[Mapping[str, JsonValue]]) -> list[Message]:
    try:
        return messages_from([dict(turn) for turn in turns])
    except RowProblem as problem:
        raise DataError(f"these messages cannot be used: {problem.rule}: {problem.detail}") from problem


def assignments_of(settings: Mapping[str, JsonValue] | None) -> list[str]:
    """Write settings as `--set` takes them; JSON is YAML, so every value arrives as it is."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in (settings or {}).items()]


def _text(value: str | Path | None) -> str | None:
    return None if value is None else str(value)
