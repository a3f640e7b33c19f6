"""The most probable of a set of labels, found exactly and without scoring them all.

The labels form a trie over their tokens, stretches without a fork joined. The probability of a label is the product
of those of its tokens, end of turn included, so the probability of a stretch's beginning bounds that of every label
behind it. Each row follows its best bound; once a whole label is as probable as the best bound left, no other label
can be more probable (best-first search, Hart et al. 1968, with the probability so far as the estimate). Rows search
side by side: a round runs one stretch of each row's trie behind the cached prompts.

B is the number of rows, T the tokens of the longest stretch, V the size of the vocabulary.
"""

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, groupby, pairwise

import torch

from luthier.core.errors import SettingsError
from luthier.core.types import Completion, Prompt
from luthier.generate.engine import Engine, Running, evaluating, memory_bounded


@dataclass(frozen=True, slots=True)
class Label:
    """A label's text and its tokens as trained, the end of the turn included."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """The most probable label of a row, the logarithm of its probability, and how many stretches were run."""

    label: Label
    log_probability: float
    runs: int


@dataclass(frozen=True, slots=True)
class _Node:
    """The end of a stretch: the tokens from the root to here, and where in them the stretch begins."""

    path: tuple[int, ...]
    start: int
    children: tuple["_Node", ...] = ()
    label: Label | None = None

    @property
    def known(self) -> bool:
        """Whether the probability of the stretch's first token is that of the whole label."""
        return self.label is not None and len(self.path) == self.start + 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """What has to run to know the stretch: nothing is predicted behind a label's last token."""
        return self.path[:-1] if self.label is not None else self.path


@dataclass(slots=True)
class _Search:
    """One row's search: a heap of (cost, number, node, whether the cost is exact); the cost is -log(probability)."""

    prompt: Prompt
    heap: list[tuple[float, int, _Node, bool]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)
    runs: int = 0

    def add(self, parent_cost: float, children: Sequence[_Node], costs: Sequence[float]) -> None:
        """Add the stretches behind a node by the costs of their first tokens."""
        for child, cost in zip(children, costs, strict=True):
            heapq.heappush(self.heap, (parent_cost + cost, next(self.numbers), child, child.known))

    @property
    def found(self) -> bool:
        """Whether the best of the heap is a whole label."""
        return self.heap[0][3]


class LabelScorer:
    """Answers every prompt with the label that the model finds most probable; decodes nothing."""

    def __init__(self, engine: Engine, labels: Sequence[Label]) -> None:
        self._engine = engine
        self._root = _trie(labels)

    def __call__(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Answer the prompts, in their order."""
        batches = self.batches(prompts)
        done = {id(p): c for batch in batches for p, c in zip(batch, self.complete_batch(batch))}
        return [done[id(prompt)] for prompt in prompts]

    def batches(self, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
        """Deal prompts of like length into batches; the same prompts always make the same batches."""
        return self._engine.batches(prompts)

    def complete_batch(self, batch: Sequence[Prompt]) -> list[Completion]:
        """Answer one batch, in its order."""
        started = time.monotonic()
        found = self.score_batch(batch)
        seconds = (time.monotonic() - started) / len(batch)
        return [
            Completion(prompt.row, one.label.text, one.label.tokens, "stop", seconds, one.log_probability)
            for prompt, one in zip(batch, found)
        ]

    def score_batch(self, batch: Sequence[Prompt]) -> list[Scored]:
        """Return each row's most probable label, the first given among equals."""
        with memory_bounded(len(batch), self._engine.device), evaluating(self._engine.model), torch.inference_mode():
            if self._engine.attends_to_all:
                return self._searched(batch)
            return [one for prompt in batch for one in self._searched([prompt])]

    def _searched(self, batch: Sequence[Prompt]) -> list[Scored]:
        running = self._engine.prefilled(batch)
        searches = [_Search(prompt) for prompt in batch]
        first = [child.path[0] for child in self._root]
        for search, costs in zip(searches, (-_log(running.logits_BV)[:, first]).tolist()):
            search.add(0.0, self._root, costs)
        while open_lines := [line for line, row in enumerate(running.rows) if not searches[row].found]:
            if len(open_lines) < len(running.rows):
                running.keep(open_lines)
            self._round(running, [searches[row] for row in running.rows])
        return [Scored(_label(search.heap[0][2]), -search.heap[0][0], search.runs) for search in searches]

    def _round(self, running: Running, searches: Sequence[_Search]) -> None:
        """Run each row's most promising stretch."""
        taken = [heapq.heappop(search.heap) for search in searches]
        nodes = [node for _, _, node, _ in taken]
        found = running.look([node.tokens for node in nodes])
        for logits_TV, search, (cost, number, node, _) in zip(found, searches, taken, strict=True):
            search.runs += 1
            inner = list(range(node.start, len(node.path) - 1))
            following = list(node.path[node.start + 1 :])
            logs_TV = _log(logits_TV)
            cost -= float(logs_TV[inner, following].sum())
            if node.label is not None:
                heapq.heappush(search.heap, (cost, number, node, True))
            else:
                first = [child.path[len(node.path)] for child in node.children]
                search.add(cost, node.children, (-logs_TV[-1, first]).tolist())


def _trie(labels: Sequence[Label]) -> tuple[_Node, ...]:
    """Return the children of the root; raise SettingsError where a label cannot be told from another."""
    ordered = sorted(labels, key=lambda label: label.tokens)
    for one, other in pairwise(ordered):
        if other.tokens[: len(one.tokens)] == one.tokens:
            raise SettingsError(
                f"the labels {one.text!r} and {other.text!r} cannot be told apart by their tokens. Give every label once."
            )
    if not ordered or not ordered[0].tokens:
        raise SettingsError("there are no labels to choose from, or one of them is empty.")
    return _children(ordered, 0)


def _children(labels: Sequence[Label], depth: int) -> tuple[_Node, ...]:
    groups = [list(group) for _, group in groupby(labels, key=lambda label: label.tokens[depth])]
    return tuple(_node(group, depth) for group in groups)


def _node(labels: Sequence[Label], start: int) -> _Node:
    """Join the stretch that all these labels share from `start` on; they are sorted by their tokens."""
    first, last = labels[0].tokens, labels[-1].tokens
    if len(labels) == 1:
        return _Node(first, start, label=labels[0])
    end = next(place for place in range(start, len(first)) if first[place] != last[place])
    return _Node(first[:end], start, _children(labels, end))


def _log(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.float(), dim=-1)


def _label(node: _Node) -> Label:
    assert node.label is not None
    return node.label
