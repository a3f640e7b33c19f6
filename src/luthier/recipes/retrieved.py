"""Passages before the questions of training, so that the model knows the prompts with which `tuned_retrieval` asks it.

They are found as that arm finds them, in `compare.knowledge` where there is some and else in the training rows, and stand
where it puts them. No row gets a row of its own cluster, so neither itself nor what is nearly itself: its answer would stand
in its prompt. Rows of validation, which judge the weights, get passages from the same places; rows of the test are left to the arms.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from luthier.config.settings import Settings
from luthier.core.hashing import file_hash, json_hash
from luthier.core.rundir import RunDir
from luthier.core.types import Conversation, Rendered, Row
from luthier.data.problems import RowProblem
from luthier.data.render import Renderer, render_all
from luthier.recipes.prompt_sources import TokenCounter, gathered
from luthier.verdict.asking import Material
from luthier.verdict.questions import questions
from luthier.verdict.retrieval import Index, embedding, pools, shown

_MADE = "~"


class Retrieved:
    """What stands before the questions of a run's training; found once a row first needs it."""

    def __init__(self, run: RunDir, settings: Settings, tokenizer: PreTrainedTokenizerBase) -> None:
        self._run, self._settings = run, settings
        wanted = settings.compare.model_copy(update={"prompts": ()})
        self._material = Material(
            lambda: gathered(run, wanted), wanted, settings.compare.grader or "", TokenCounter(tokenizer), settings.seed
        )

    @property
    def made_from(self) -> str:
        """What the passages depend on besides the rows of the parts, as a hash."""
        compare, texts = self._settings.compare, [list(one) for one in self._material.sources.documents]
        clusters = file_hash(self._run.assignment)
        return json_hash([self._settings.train.retrieved, compare.added_tokens, compare.dense, texts, clusters])  # type: ignore[list-item]  # lists of JSON are JSON, which a checker reads invariantly

    def render(self, rows: Iterable[Row], renderer: Renderer) -> Iterator[tuple[Row, list[Rendered] | RowProblem]]:
        """Render rows with their passages, in order; where they leave no room for the answer, with fewer."""
        waiting: deque[Row] = deque()

        def told() -> Iterator[Row]:
            for row in rows:
                waiting.append(row)
                yield self.told(row, self._settings.compare.added_tokens)

        for _, result in render_all(told(), renderer, "sft"):
            row = waiting.popleft()
            yield row, result if _whole(result) else self._fitting(row, renderer)

    def told(self, row: Row, room: int) -> Row:
        """Return a row with at most `room` tokens of passages before its last question."""
        asked = questions([row])
        if not asked or not isinstance(row.content, Conversation):
            return row
        (question,) = asked
        ranked = self._index.search(question.text, self._own_places.get(self._cluster_of[_given(row)], ()))
        best = [self._index.passages[place] for place in ranked]
        messages = shown(self._material, best, self._settings.train.retrieved, question, room)
        rest = row.content.messages[len(question.messages) :]
        return replace(row, content=replace(row.content, messages=(*messages, *rest)))

    def _fitting(self, row: Row, renderer: Renderer) -> list[Rendered] | RowProblem:
        """Halve the room, as the arms do, until nothing of the row is lost; at last without passages."""
        room = self._settings.compare.added_tokens
        while room := room // 2:
            (result,) = renderer.render_many([self.told(row, room)], "sft")
            if _whole(result):
                return result
        return renderer.render_many([row], "sft")[0]

    @cached_property
    def _passages(self) -> list[str]:
        return next(iter(pools(self._material).values()), [])

    @cached_property
    def _index(self) -> Index:
        return Index(self._passages, embedding(self._material))

    @cached_property
    def _cluster_of(self) -> Mapping[str, int]:
        table = pq.read_table(self._run.assignment, columns=["id", "cluster"]).to_pydict()
        return dict(zip(table["id"], table["cluster"], strict=True))

    @cached_property
    def _own_places(self) -> Mapping[int, list[int]]:
        """The places of the passages that are rows of each cluster."""
        places: dict[int, list[int]] = {}
        for place, example in enumerate(() if self._material.sources.documents else self._material.examples):
            places.setdefault(self._cluster_of[example.row.id], []).append(place)
        return places


def asked_as(settings: Settings, with_passages: bool) -> str:
    """Say behind the description of an arm of the tuned model what stood before the questions of its training."""
    count = settings.train.retrieved
    if not count:
        return ""
    passages = f"{count} passage{'s' if count != 1 else ''}"
    return f"; trained with {passages} before each question" + (
        "" if with_passages else ", and asked without them here"
    )


def caution(settings: Settings) -> str:
    """Say what the plain tuned arm of such a run does not tell; empty for other runs."""
    if not settings.train.retrieved or "tuned" not in settings.compare.arms:
        return ""
    return (
        f"The tuned model was trained with passages before its questions (train.retrieved={settings.train.retrieved}); asked without them it "
        "does not tell what training without passages reaches. For that, run once more without the setting and hold the two runs "
        "against each other: luthier compare RUN --against RUN2."
    )


def _given(row: Row) -> str:
    """Return the id of the row that was given: of a made row that which it was made from."""
    return row.id.partition(_MADE)[0]


def _whole(result: list[Rendered] | RowProblem) -> bool:
    return not isinstance(result, RowProblem) and not any(one.lost_tokens for one in result)
