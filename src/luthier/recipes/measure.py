"""Rows under a model's tokenizer: how long each is, what of it is trained, and what would be cut off.

In a run the rows of the parts are made into sequences once, for the lengths and for the training after them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from luthier.core.types import PARTS, Rendered, Row
from luthier.data.checking import RowLength
from luthier.data.problems import RowProblem
from luthier.data.render import render_all
from luthier.recipes.desk import Desk
from luthier.recipes.job import Job

_NOTHING = RowLength(0, 0)


class ModelRuler:
    """Measures rows by the model that the settings name; loads its tokenizer, not its weights.

    `known` are lengths by row id, which are not measured again.
    """

    def __init__(self, desk: Desk, known: Mapping[str, RowLength] | None = None) -> None:
        job = desk if isinstance(desk, Job) else Job(desk.run, desk.settings, desk.voice)
        self._known = known or {}
        self._renderer = job.renderer
        self._objective: Literal["sft", "text"] = "text" if desk.settings.train.objective == "text" else "sft"
        self.context_length = job.context

    def measure(self, rows: Sequence[Row]) -> list[RowLength]:
        """Return the length of each row, over all sequences that it renders to."""
        unknown = [row for row in rows if row.id not in self._known]
        measured = {
            row.id: _length_of(row, rendered) for row, rendered in render_all(unknown, self._renderer, self._objective)
        }
        return [self._known.get(row.id) or measured[row.id] for row in rows]


def rendered_lengths(job: Job) -> dict[str, RowLength]:
    """Return the lengths of the rows of all parts, by their ids, from the sequences that the later stages train and ask."""
    lengths: dict[str, RowLength] = {}
    for part in PARTS:
        rendered = job.rendered(part)
        lengths |= lengths_by_row(rendered.sequences)
        lengths |= {id: RowLength(0, 0, problem=problem.rule) for id, problem in rendered.problems.items()}
    return lengths


def lengths_by_row(sequences: Iterable[Rendered]) -> dict[str, RowLength]:
    """Return the length of each row by its id; a row may have several sequences."""
    lengths: dict[str, RowLength] = {}
    for one in sequences:
        before = lengths.get(one.row, _NOTHING)
        lengths[one.row] = RowLength(
            before.tokens + len(one.tokens_L), before.trained + one.num_trained, before.lost + one.lost_tokens
        )
    return lengths


def _length_of(row: Row, rendered: list[Rendered] | RowProblem) -> RowLength:
    if isinstance(rendered, RowProblem):
        return RowLength(0, 0, problem=rendered.rule)
    return lengths_by_row(rendered).get(row.id, _NOTHING)
