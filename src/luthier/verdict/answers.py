"""The answers table: one row per test row and arm, kept in `answers/<arm>.parquet`, and its sums."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luthier.config.settings import Settings
from luthier.core.errors import RunFolderError
from luthier.core.rundir import write_atomically
from luthier.core.types import FinishReason, Grade, Grader, JsonObject, JsonValue
from luthier.verdict.stats import Sample, effective_rows, intervals, mean

_GRADER = b"luthier.grader"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("messages", pa.string()),
        ("answer", pa.string()),
        ("completion", pa.string()),
        ("finish_reason", pa.string()),
        ("score", pa.float64()),
        ("grades", pa.string()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
        ("seconds", pa.float64()),
        ("confidence", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What one arm answered to one row: `messages` is the history, `answer` the wanted text, `grades` the marks.

    `confidence` is the probability that the model gave to its whole answer, None where it is not known.
    """

    id: str
    file: str
    line: int
    messages: Sequence[JsonObject]
    answer: str
    completion: str
    finish_reason: FinishReason
    score: float
    grades: Mapping[str, JsonValue] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    confidence: float | None = None

    @property
    def grade(self) -> Grade:
        """The grade that this row was given."""
        return Grade(self.score, self.grades)

    @property
    def question(self) -> str:
        """The last message of the user."""
        asked = [message["content"] for message in self.messages if message.get("role") == "user"]
        return str(asked[-1]) if asked else ""

    def as_entry(self) -> JsonObject:
        """Return the row as a flat JSON object with the columns of the table, for a journal of an unfinished arm."""
        entry: JsonObject = asdict(self)
        entry["messages"] = json.dumps(list(self.messages))
        entry["grades"] = json.dumps(dict(self.grades))
        return entry


def answer_row(entry: Mapping[str, JsonValue]) -> AnswerRow:
    """Make the row of what `as_entry` returned or a table holds."""
    values = dict(entry)
    messages, grades = json.loads(str(values.pop("messages"))), json.loads(str(values.pop("grades")))
    return AnswerRow(messages=messages, grades=grades, **values)  # type: ignore[arg-type]  # the columns of the file are the fields of the record


def write_answers(path: Path, rows: Sequence[AnswerRow], grader: str = "") -> None:
    """Write the rows as Parquet, with the name of their grader; the file appears whole or not at all."""
    stream = io.BytesIO()
    table = pa.Table.from_pylist([row.as_entry() for row in rows], SCHEMA).replace_schema_metadata({_GRADER: grader})
    pq.write_table(table, stream, compression="zstd")
    write_atomically(path, stream.getvalue())


def graded_by(path: Path) -> str | None:
    """Return the grader that gave the grades in a file of answers; None where the file does not say."""
    found = (pq.read_schema(path).metadata or {}).get(_GRADER)
    return found.decode() if found else None


def read_answers(path: Path) -> pa.Table:
    """Return the written answers of an arm; raise RunFolderError if there are none."""
    if not path.exists():
        raise RunFolderError(f"there are no answers at {path}; let the run finish first: luthier resume RUN")
    return pq.read_table(path, schema=SCHEMA)


def answer_rows(table: pa.Table) -> list[AnswerRow]:
    """Return the rows of an answers table."""
    return [answer_row(entry) for entry in table.to_pylist()]


def arm_summary(
    rows: Sequence[AnswerRow],
    grader: Grader,
    clusters: np.ndarray,
    settings: Settings,
    folds: np.ndarray | None = None,
) -> JsonObject:
    """Return what `verdict.json` says of an arm; `clusters` holds the cluster of each row, `folds` its fold where there are some.

    To the grader's metrics comes `cut_off`, the share of answers that ran into the answer budget.
    """
    assert rows
    scores_R = np.array([row.score for row in rows])
    sample = Sample(clusters, settings.compare.resamples, settings.seed, folds_R=folds)
    low_S, high_S = intervals(scores_R[:, None], sample)
    cut_off = sum(row.finish_reason == "length" for row in rows) / len(rows)
    return {
        "score": mean(scores_R),
        "interval": [float(low_S[0]), float(high_S[0])],
        "effective_rows": effective_rows(scores_R, clusters),
        "metrics": {**grader.metrics([row.grade for row in rows]), "cut_off": cut_off},
        "tokens_in": sum(row.tokens_in for row in rows),
        "tokens_out": sum(row.tokens_out for row in rows),
        "seconds": sum(row.seconds for row in rows),
    }
