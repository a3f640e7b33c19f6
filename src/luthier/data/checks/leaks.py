"""What the model must not know before it is judged: held-out questions, benchmarks, and the answer itself.

Rows that ask what a held-out row asks were set aside by the split; this says which they are, what they
touched and how: the same text, the same but for case and punctuation, nearly the same, or the same group.
Rows that ask what a benchmark of `check.benchmarks` asks are named. An answer that stands in its own
prompt is a leak only where that is rare: in extraction, or with the labels listed, it is the task.

What it cannot see: a question that was leaked in other words or in another language, and a benchmark
that was not named.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np

from luthier.core.types import Conversation, Finding, Repair, Row
from luthier.data.benchmarks import Benchmarks, Match
from luthier.data.checking import Context, Dimension, Place
from luthier.data.deal import BRIDGES, OVERLAPS
from luthier.data.normal import answer, normalized, place, places, question
from luthier.data.shingles import shingle_sets

Likeness = Literal["exact", "normalized", "near", "group"]

_HELD_OUT_BY = {rule: part for part, rule in OVERLAPS.items()}
_SAYS: dict[Likeness, str] = {
    "exact": "is asked word for word in",
    "normalized": "is asked, but for case, punctuation or white space, in",
    "near": "is asked nearly word for word in",
    "group": "shares its group with",
}
_CONFIDENCE: dict[Likeness, float] = {"exact": 1.0, "normalized": 1.0, "near": 0.9, "group": 0.9}
_THRESHOLD = 0.8
# Shorter answers stand in a prompt by chance.
_LEAST_CHARACTERS = 24
# From this share of the rows on, to find the answer in the prompt is the task.
_TASK_SHARE = 0.1
_MOST_NAMED = 4


class Check:
    """Find rows that give away a held-out question, a benchmark, or their own answer."""

    dimension: ClassVar[Dimension] = "leak_free"
    effect: ClassVar[str] = "a model that has seen a test question is praised for its memory"
    blind: ClassVar[str] = "a question that was leaked in other words"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._threshold = _threshold(context)
        paths = context.settings.benchmarks or context.benchmarks
        self._benchmarks = Benchmarks(paths, self._threshold) if paths else None
        self._matches: list[Match] = []
        self._given_away: list[int] = []
        self._num_long_answers = 0

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Compare the row with the benchmarks and its answer with its prompt; the held-out rows the split has compared."""
        if self._benchmarks is not None and self._context.origin_at(position) == "data":
            self._matches += self._benchmarks.add(position, normalized(question(row)))
        if isinstance(row.content, Conversation):
            said = answer(row)
            if len(said) >= _LEAST_CHARACTERS:
                self._num_long_answers += 1
                if _stands_in_prompt(said, row.content):
                    self._given_away.append(position)
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield the held-out rows that were touched, in their order, then the benchmarks, then the answers given away."""
        yield from self._overlaps()
        if self._benchmarks is not None:
            self._matches += self._benchmarks.flush()
            for path in dict.fromkeys(match.path for match in self._matches):
                yield self._benchmark(path, [match for match in self._matches if match.path == path])
        if 0 < len(self._given_away) < _TASK_SHARE * self._num_long_answers:
            yield self._answers_in_prompts()

    def _overlaps(self) -> Iterator[Finding]:
        assignment = self._context.assignment
        if assignment is None:
            return
        aside: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for position, (rule, touched) in enumerate(zip(assignment.rule, assignment.touched, strict=True)):
            if rule is not None and touched is not None:
                aside[touched, rule].append(position)
        for (position, rule), taken in sorted(aside.items()):
            touched, rows = self._context.row_at(position), [self._context.row_at(one) for one in taken]
            if rule == BRIDGES:
                yield _bridge(touched, rows)
                continue
            by_likeness: defaultdict[Likeness, list[Row]] = defaultdict(list)
            for row in rows:
                by_likeness[_likeness(touched, row, self._threshold)].append(row)
            for likeness, alike in by_likeness.items():
                yield _overlap(touched, _HELD_OUT_BY[rule], likeness, alike)

    def _benchmark(self, path: str, matches: Sequence[Match]) -> Finding:
        same = sum(match.same for match in matches)
        at = [self._context.place_at(match.position) for match in matches]
        named = [f"{row} ({match.asked_at})" for row, match in zip(at[:_MOST_NAMED], matches)]
        ask = "1 training row asks" if len(matches) == 1 else f"{len(matches):,} training rows ask"
        return Finding(
            check="leaks", kind="benchmark", severity="warning", confidence=1.0 if same == len(matches) else 0.9,
            rows=tuple(row.id for row in at),
            detail=f"{ask} what the benchmark {path} asks, {same:,} of them the same and {len(matches) - same:,} "
            f"nearly the same: {_listed(named, len(at))}.",
            fix="Drop these rows, or never report a score on this benchmark.",
            repairs=tuple(Repair(row.id, "drop", safe=False) for row in at),
        )  # fmt: skip

    def _answers_in_prompts(self) -> Finding:
        at: list[Place] = [self._context.place_at(position) for position in self._given_away]
        hold = "1 prompt holds" if len(at) == 1 else f"{len(at):,} prompts hold"
        return Finding(
            check="leaks", kind="answer-in-prompt", severity="warning", confidence=0.6,
            rows=tuple(place.id for place in at),
            detail=f"{hold} the whole answer, which {self._num_long_answers - len(at):,} others do not: "
            f"{_listed([str(place) for place in at[:_MOST_NAMED]], len(at))}.",
            fix="Look whether the answer slipped into the prompt; a model learns from such rows to copy.",
        )  # fmt: skip


def _threshold(context: Context) -> float:
    return _THRESHOLD if context.assignment is None else float(str(context.assignment.certificate["near_duplicate"]))


def _stands_in_prompt(said: str, content: Conversation) -> bool:
    """Tell whether the answer is part of what comes before it, earlier answers aside."""
    prompt = "\n".join(message.content for message in content.messages if message.role != "assistant")
    # A quick look for the first words spares nearly every row the normalizing.
    if said.strip()[:_LEAST_CHARACTERS].casefold() not in prompt.casefold():
        return False
    wanted = normalized(said)
    return len(wanted) >= _LEAST_CHARACTERS and f" {wanted} " in f" {normalized(prompt)} "


def _likeness(touched: Row, row: Row, threshold: float) -> Likeness:
    asked, other = question(touched), question(row)
    if asked == other:
        return "exact"
    if normalized(asked) == normalized(other):
        return "normalized"
    if row.group is None or row.group != touched.group:
        return "near"
    first, second = np.array([0]), np.array([1])
    kinds = shingle_sets([normalized(asked), normalized(other)], form=set())
    alike = any(len(kind.members_N) == 2 and kind.jaccard(first, second)[0] >= threshold for kind in kinds)
    return "near" if alike else "group"


def _overlap(touched: Row, part: str, likeness: Likeness, taken: Sequence[Row]) -> Finding:
    plural = "rows are" if len(taken) > 1 else "row is"
    return Finding(
        check="leaks", kind=likeness, severity="warning", confidence=_CONFIDENCE[likeness],
        rows=tuple(row.id for row in (touched, *taken)),
        detail=f"the {part} row {place(touched)} {_SAYS[likeness]} {places(taken)}; {len(taken)} {plural} taken out of training.",
        fix=f"Nothing needs to be done, the score is honest. To train on the question, take it out of the {part} file.",
    )  # fmt: skip


def _bridge(touched: Row, taken: Sequence[Row]) -> Finding:
    plural = "rows are" if len(taken) > 1 else "row is"
    like = f"for likeness to rows in two parts, {place(touched)} among them"
    return Finding(
        check="leaks", kind="bridge", severity="info", confidence=1.0, rows=tuple(row.id for row in (touched, *taken)),
        detail=f"{len(taken)} {plural} set aside {like}: {places(taken)}.",
        fix="Nothing needs to be done; the rows are in no part.",
    )  # fmt: skip


def _listed(named: Sequence[str], count: int) -> str:
    more = count - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more > 0 else "")
