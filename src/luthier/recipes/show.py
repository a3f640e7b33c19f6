"""Look into a run: where it stands, or one row as the model sees it, its trained tokens highlighted."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.text import Text as RichText

from luthier.config.load import load
from luthier.core.errors import DataError
from luthier.core.journal import entries
from luthier.core.rundir import RunDir, open_run
from luthier.core.types import PARTS, JsonObject, JsonValue, Rendered, Row
from luthier.data.ledger import read_ledger, summary_of
from luthier.data.problems import RowProblem
from luthier.data.store import read_stored
from luthier.recipes.job import Job
from luthier.recipes.verdict_file import read_verdict
from luthier.recipes.voice import Voice

# Seen where colours are not: in a pipe, in a file.
TRAINED_START, TRAINED_END = "\u27e6", "\u27e7"


def as_json(path: Path, row: str | None) -> JsonObject:
    """Return the state of a run, or one rendered row: its tokens with their text and weight."""
    run = open_run(path)
    if row is None:
        return _state(run)
    found, sequences, job = _rendered(run, row)
    shown = [
        {"tokens": [{"id": int(t), "text": job.tokenizer.decode([int(t)]), "weight": float(w)} for t, w in zip(s.tokens_L, s.weight_L, strict=True)]}
        for s in sequences
    ]  # fmt: skip
    return {"id": found.id, "file": found.file, "line": found.line, "sequences": shown}  # type: ignore[dict-item]  # lists of JSON are JSON, which a checker reads invariantly


def as_text(path: Path, row: str | None) -> RichText:
    """Return the same for a person."""
    run = open_run(path)
    if row is None:
        return RichText("\n".join(f"{key}: {_words(value)}" for key, value in _state(run).items()))
    found, sequences, job = _rendered(run, row)
    out = RichText(f"{found.file}:{found.line}  id {found.id}\n")
    for sequence in sequences:
        count = (
            f"{len(sequence.tokens_L)} tokens, {sequence.num_trained} trained ({TRAINED_START}highlighted{TRAINED_END})"
        )
        out.append(f"{count}\n\n", style="dim")
        for trained, tokens in _stretches(sequence):
            text = job.renderer.decode(tokens)
            out.append(
                f"{TRAINED_START}{text}{TRAINED_END}" if trained else text, style="black on green" if trained else None
            )
        out.append("\n\n")
    return out


def _words(value: JsonValue) -> str:
    """Write counts as `train 23, test 6`; an empty set of counts is none."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key} {_words(count)}" for key, count in value.items()) or "none"


def _stretches(sequence: Rendered) -> Iterator[tuple[bool, list[int]]]:
    """Yield runs of trained and untrained tokens; decoded together, no character of several tokens is torn."""
    marked = zip((sequence.weight_L > 0).tolist(), sequence.tokens_L.tolist(), strict=True)
    for trained, group in groupby(marked, key=itemgetter(0)):
        yield trained, [token for _, token in group]


def _state(run: RunDir) -> JsonObject:
    done: list[str] = [str(entry["stage"]) for entry in entries(run.events) if entry["event"] == "stage_done"]
    state: JsonObject = {"run": str(run.path), "done": ", ".join(done) or "nothing yet"}
    if run.ledger.exists():
        state["data"] = summary_of(read_ledger(run.ledger))
    if run.verdict.exists():
        verdict = read_verdict(run)
        state |= {"outcome": verdict["outcome"], "because": verdict["because"]}
    return state


def _rendered(run: RunDir, wanted: str) -> tuple[Row, list[Rendered], Job]:
    job = Job(run, load([run.config]), Voice(quiet=True))
    found = _find(run, wanted)
    try:
        return found, job.renderer.render(found, "text" if job.settings.train.objective == "text" else "sft"), job
    except RowProblem as problem:
        raise DataError(f"{found.file}:{found.line} cannot be rendered: {problem.rule}: {problem.detail}") from problem


def _find(run: RunDir, wanted: str) -> Row:
    if not all(run.part(part).exists() for part in PARTS):
        raise DataError(f"{run.path} has not split its rows yet; go on with: luthier resume {run.path}")
    for part in PARTS:
        for number, row in enumerate(read_stored(run.part(part)), start=1):
            if row.id == wanted or (part == "train" and wanted == str(number)):
                return row
    raise DataError(
        f"there is no row {wanted!r}; give the number of a training row (1 is the first) or an id from the ledger."
    )
