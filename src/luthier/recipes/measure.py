"""Rows under a model's tokenizer: how long each is, what of it is trained, and what would be cut off."""

from collections.abc import Sequence
from typing import Literal

from luthier.core.types import Row
from luthier.data.checking import RowLength
from luthier.data.problems import RowProblem
from luthier.data.render import render_all
from luthier.recipes.desk import Desk
from luthier.recipes.job import Job


class ModelRuler:
    """Measures rows by the model that the settings name; loads its tokenizer, not its weights."""

    def __init__(self, desk: Desk) -> None:
        job = desk if isinstance(desk, Job) else Job(desk.run, desk.settings, desk.voice)
        self._renderer = job.renderer
        self._objective: Literal["sft", "text"] = "text" if desk.settings.train.objective == "text" else "sft"
        self.context_length = job.context

    def measure(self, rows: Sequence[Row]) -> list[RowLength]:
        """Return the length of each row, over all sequences that it renders to."""
        lengths: list[RowLength] = []
        for _, rendered in render_all(rows, self._renderer, self._objective):
            if isinstance(rendered, RowProblem):
                lengths.append(RowLength(0, 0, problem=rendered.rule))
                continue
            tokens = sum(len(one.tokens_L) for one in rendered)
            trained = sum(one.num_trained for one in rendered)
            lengths.append(RowLength(tokens, trained, sum(one.lost_tokens for one in rendered)))
        return lengths
