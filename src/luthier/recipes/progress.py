"""What a run folder says of a training that goes on, in the words of the API."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.core.types import JsonObject, JsonValue
from luthier.jobs.queue import Metrics

HEADER = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
_MOST_EVENTS = 1000


class Tail:
    """Reads what has been added to metrics.jsonl since it was last asked.

    A resumed trainer cuts the file and writes the same bytes again, so a place in it keeps its meaning.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def added(self) -> list[JsonObject]:
        """Return the new whole lines."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def as_metrics(lines: Sequence[JsonObject], num_steps: int) -> list[Metrics]:
    """Return the figures to publish: about a thousand steps of a job, and every validation."""
    every = max(1, num_steps // _MOST_EVENTS)
    return [
        _metrics(line, num_steps)
        for line in lines
        if int(str(line["step"])) in (1, num_steps) or int(str(line["step"])) % every == 0 or "validation_loss" in line
    ]


def at_step(line: JsonObject) -> JsonObject:
    """Return the figures of a step under the API's names."""
    figures: JsonObject = {"step": line["step"], "train_loss": _number(line["loss"])}
    if "validation_loss" in line:
        figures |= {"valid_loss": _number(line["validation_loss"]), "full_valid_loss": _number(line["validation_loss"])}
    return figures


def result_csv(run: RunDir) -> bytes:
    """Return the result file: a line a step; accuracies stay empty, as training does not compute them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for line in entries(run.metrics):
        figures = at_step(line)
        writer.writerow([figures["step"], figures["train_loss"], "", figures.get("valid_loss", ""), ""])
    return text.getvalue().encode()


def trained(run: RunDir) -> JsonObject:
    """Return how the training ended: the event `trained`."""
    return [entry for entry in entries(run.events) if entry["event"] == "trained"][-1]


def _metrics(line: JsonObject, num_steps: int) -> Metrics:
    step, figures = int(str(line["step"])), at_step(line)
    message = f"Step {step}/{num_steps}: training loss={figures['train_loss']:.2f}"
    if "valid_loss" in figures:
        message += f", validation loss={figures['valid_loss']:.2f}"
    return Metrics(step, message, figures)


def _number(written: JsonValue) -> float:
    return float.fromhex(str(written))
